"""Statistics of images, near duplicates, and the estimate of training time."""
