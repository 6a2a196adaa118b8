"""Fine-tuning: the loop, its losses (eq. 2 to 6), checkpoints, GPU memory. Imports `weights` and below."""
