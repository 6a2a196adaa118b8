"""Classification with any class names: scores, class offsets, calibration and optimised inference.

May import `weights` and the layers below it, but not `training`.
"""
