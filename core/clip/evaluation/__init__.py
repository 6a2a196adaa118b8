"""Predictions for held-out images, and the report made of them.

Imports `training`, `inference` and below.
"""
