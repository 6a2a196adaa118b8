"""Accuracy of the methods: runs, tables and figures. Imports `benchmarks.methods` and `benchmarks.data`."""
