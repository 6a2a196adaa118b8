"""Speed and memory of a training. Imports `benchmarks.data`."""
