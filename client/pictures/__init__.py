"""Labelled pictures as people have them, read on their machine before the upload."""
