"""Weights of adapted models: the packed delta, its files, and interpolation (equation 7).

May import `models` and the layers below it.
"""
