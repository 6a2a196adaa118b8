"""Threads beside the compute threads.

By default, torch splits even small operations over all cores, and starts a thread pool per calling thread.
While a model computes on every core, such operations wait for busy cores.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

_lock = threading.Lock()


def single_threaded(workers: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of threads in which torch does not start threads of its own."""
    return ThreadPoolExecutor(workers, thread_name_prefix=name, initializer=partial(use_threads, 1))


def use_threads(count: int) -> None:
    """Set torch's intra-op thread count for this thread.

    Torch also makes the count the default for new threads. A helper thread restores the old default.
    """
    with _lock:
        default = torch.get_num_threads()  # inherited by this thread
        torch.set_num_threads(count)
        other = threading.Thread(target=torch.set_num_threads, args=(default,))
        other.start()
        other.join()
