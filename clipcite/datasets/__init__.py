"""Readers of labelled images: class folders, manifests, exports of annotation tools.

May import `clipcite.client.errors`, no other part of `clipcite`.
"""
