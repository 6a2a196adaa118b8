"""Routes of /piles."""
