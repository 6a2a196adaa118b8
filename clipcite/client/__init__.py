"""The SDK: HTTP requests, responses and their types. May import `clipcite.wire` and `clipcite.datasets`."""
