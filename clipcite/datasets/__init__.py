"""Readers of labelled images: class folders, manifests, exports of annotation tools."""
