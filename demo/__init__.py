"""`make demo`: the whole loop on this machine, from a few pictures to a measured result."""
