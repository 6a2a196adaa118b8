"""Method, store, serving, settings. Imports neither `api`, `worker` nor `clipcite`."""
