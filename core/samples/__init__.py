"""Sample images with labels, drawn by the project. May import `core.errors`."""
