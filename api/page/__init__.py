"""What a browser gets: the page at /, and the reference of the API at /docs."""
