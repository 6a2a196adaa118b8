"""CLIP-CITE as a plain Python library: no server, no database.

Start with `core.clip.adapt.adapt` and `core.clip.inference.classifier.Classifier`.
"""
