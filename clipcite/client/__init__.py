"""The SDK: HTTP requests, responses and their types. May import `clipcite.types` and `clipcite.datasets`."""
