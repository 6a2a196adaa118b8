"""HTTP routes and the web page. May import `core` and `clipcite.types`, but not `worker`."""
