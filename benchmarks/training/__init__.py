"""How fast a training runs, and what it takes. Imports `benchmarks.data`."""
