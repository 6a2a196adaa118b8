"""The change of a backbone's weights: packed, stored, read and interpolated (equation 7).

May import `models` and the layers below it.
"""
