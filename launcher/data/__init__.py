"""The data set as files: pictures, captions, buckets. Torch-free."""
