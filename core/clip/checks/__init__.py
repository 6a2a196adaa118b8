"""Checks of images and class names before any training, and the estimate of its cost.

May import `config`, `prompts` and `errors`, no torch.
"""
