"""The rivals: one readable file per method, each with its paper and its default settings."""
