"""Checks of images and class names before training, and the estimate of training time.

May import `config`, `prompts` and `errors`, but not torch.
"""
