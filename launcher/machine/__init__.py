"""What this machine has: GPUs, host memory, disks, compiler. Asked without torch, and without touching the GPU."""
