"""Readers of labelled images: class folders, manifests, exports of annotation tools.

May import `clipcite.client.errors` and `clipcite.wire.folders`, but nothing else of `clipcite`.
"""
