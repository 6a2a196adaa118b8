"""HTTP routes, their schemas and the web page. May import `core`, never `worker` or `clipcite`."""

import os
import sys

# Threads that compute together wait for each other after every step: awake for some ten microseconds, since
# to be woken takes longer than most steps, but not for the milliseconds that are usual, in which they would
# keep the cores from those that decode and answer. GNU's OpenMP, which PyTorch brings on Linux, does so if it
# is told both; others would stay awake for good. It is read when PyTorch is first imported.
if sys.platform == "linux":
    os.environ.setdefault("OMP_WAIT_POLICY", "active")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
else:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
