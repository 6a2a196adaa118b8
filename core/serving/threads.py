"""Threads that do little beside the one that computes.

By default torch splits even small work over all cores, from whichever thread it comes. With a network at work
on every core each would wait for parts that are not being run, and every thread would bring more threads.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

_lock = threading.Lock()


def single_threaded(workers: int, name: str) -> ThreadPoolExecutor:
    """A pool of threads in which torch uses no others."""
    return ThreadPoolExecutor(workers, thread_name_prefix=name, initializer=partial(use_threads, 1))


def use_threads(count: int) -> None:
    """Of torch's, in this thread. The number is a setting of each thread, and at once the default of those
    that come: that is put back, by a thread that comes."""
    with _lock:
        default = torch.get_num_threads()  # taken over by this thread
        torch.set_num_threads(count)
        other = threading.Thread(target=torch.set_num_threads, args=(default,))
        other.start()
        other.join()
