"""Fine-tuning: the loop, its losses (equations 2 to 6), checkpoints and micro-batches."""
