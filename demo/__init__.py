"""`make demo`: train a model on sample images on this machine, and show the change."""
