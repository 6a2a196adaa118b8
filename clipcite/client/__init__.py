"""The SDK: HTTP requests, answers and their types. Imports `clipcite.datasets` only."""
