"""Evaluation of a model on held-out images, and the report.

May import every module of `core.clip` except `pipeline` and `export`.
"""
