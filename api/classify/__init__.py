"""POST /classify: images in, classes out. Imports `deps` and below."""
