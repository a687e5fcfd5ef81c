"""The DeepSpeed builder without a screen: a configuration being edited, field by field."""
