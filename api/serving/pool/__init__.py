"""Models in memory: loaded once, shared by requests, evicted to stay within a budget of bytes."""
