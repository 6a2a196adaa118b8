"""Real architectures at full size, from a model hub to a model that open_clip loads."""
