"""The asynchronous client. May import `clipcite.client` and `clipcite.datasets`."""
