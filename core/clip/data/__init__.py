"""Decoding, transforms, batches and splits: the way from image files to training batches.

May import `config`, `prompts` and `errors`.
"""
