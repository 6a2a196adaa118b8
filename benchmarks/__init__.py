"""What the figures in the README are made with. Each prints a table and writes JSON."""
