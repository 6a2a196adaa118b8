"""Sample images with labels, drawn by the project or from installed packages. May import `core.errors`."""
