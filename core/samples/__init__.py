"""Sample images with labels, drawn by the project."""
