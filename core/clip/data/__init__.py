"""Decoding, transforms, splits and batches: from image files to training batches."""
