"""Models in memory for the API, with class names, batches across requests, instant previews."""
