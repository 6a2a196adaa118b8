"""Evaluation of a model on held-out images, and the report."""
