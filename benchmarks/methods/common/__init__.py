"""What the compared methods share. Imports `benchmarks.data`."""
