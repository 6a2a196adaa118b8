"""CLIP-CITE as a plain Python library: no server, no database.

Start with `core.clip.pipeline.adapt` and `core.clip.inference.classifier.Classifier`.
"""
