"""Corrections of models, and their evaluation on test images."""
