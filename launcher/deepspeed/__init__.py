"""DeepSpeed's JSON: what it holds, how it is read, set right and judged. Nothing here imports DeepSpeed or torch."""
