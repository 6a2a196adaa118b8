"""HTTP routes and the web page. May import `core` and `clipcite.wire`, but not `worker`."""
