"""HTTP and nothing else: a route is a signature and one call."""
