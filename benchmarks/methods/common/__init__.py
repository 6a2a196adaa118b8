"""Parts shared by the compared methods. Imports `benchmarks.data`."""
