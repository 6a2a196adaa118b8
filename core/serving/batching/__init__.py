"""Images of many requests in one forward pass. Imported by `core.serving` only."""
