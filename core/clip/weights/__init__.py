"""The change of a backbone's weights: packed, stored, read, interpolated (eq.

7). Imports `models` and below.
"""
