"""Evaluation of a trained model on images that it has not seen, and the report.

May import every module of `core.clip` except `pipeline` and `export`.
"""
