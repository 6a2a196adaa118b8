"""Preflight: detection rate, cost, and effect of the faults. Imports `benchmarks.data`."""
