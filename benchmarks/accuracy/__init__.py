"""Accuracy, tables and figures of the paper's kind. Imports `benchmarks.methods` and `benchmarks.data`."""
