"""Evaluation of models on images of a person."""
