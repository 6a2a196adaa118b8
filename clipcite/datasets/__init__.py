"""Readers of labelled images: class folders, manifests, exports of annotation tools.

May import `clipcite.errors` and `clipcite.types.folders`, but nothing else of `clipcite`.
"""
