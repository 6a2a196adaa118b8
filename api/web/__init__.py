"""Routes and static files of the web page, which needs no build."""
