"""Weights of adapted models: the packed delta, its files, and interpolation (equation 7)."""
