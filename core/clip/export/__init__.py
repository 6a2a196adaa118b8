"""Models as files for other programs, and back. Imports everything but `pipeline`."""
