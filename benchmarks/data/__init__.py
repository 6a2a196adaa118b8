"""Labelled images for the benchmarks: class folders and the data sets of the papers."""
