"""HTTP routes, their schemas and the web page. May import `core`, never `worker` or `clipcite`."""
