"""Labelled images from class folders, manifests and annotation tools.

May import `clipcite.client.errors`, no other part of `clipcite`.
"""
