"""The SDK: HTTP requests, answers and their types. May import `clipcite.datasets`, nothing of the server."""
