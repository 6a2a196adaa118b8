"""HTTP routes and the web page."""
