"""What the preflight finds, costs and prevents. Imports `benchmarks.data`."""
