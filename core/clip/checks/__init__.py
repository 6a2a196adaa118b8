"""Checks of images and class names before training, and the estimate of training time and memory.

May import `config`, `prompts` and `errors`, no torch.
"""
