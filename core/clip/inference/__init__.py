"""Classification with any class names: scores, class offsets, calibration and fast forms of a model.

May import `weights` and the layers below it, not `training`.
"""
