"""Classification with any class names: scores, class offsets, calibration and optimised inference."""
