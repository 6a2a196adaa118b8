"""Models, their versions and names."""
