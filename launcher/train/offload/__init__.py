"""ZeRO offload's host side: what of DeepSpeed's is done with less memory and fewer passes over it."""
