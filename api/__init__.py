"""HTTP and nothing else: a route is a signature and one call."""

import os

# Threads that compute together and wait for each other after every step are to sleep meanwhile, not to keep
# the cores from those that decode and answer. It is read when PyTorch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
