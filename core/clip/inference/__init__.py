"""From a model and class names to scores, offsets and calibrated probabilities.

Imports `weights` and below.
"""
