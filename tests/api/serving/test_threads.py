import subprocess
import sys

import pytest

PROGRAM = """
import threading, torch
from concurrent.futures import ThreadPoolExecutor
from api.serving.threads import single_threaded

torch.set_num_threads(3)
alone = single_threaded(4, "alone")
barrier = threading.Barrier(4)

def used(_):
    barrier.wait(60)
    torch.ones(1_000_000).sum()  # large enough to be split
    return torch.get_num_threads()

other = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()
print(*alone.map(used, range(4)), torch.get_num_threads(), other)
"""


@pytest.mark.slow
def test_only_these_threads_compute_single_threaded() -> None:
    """The test runs in a process of its own, because the number of threads is a setting of the
    whole process.
    """
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1"] * 4 + ["3", "3"]
