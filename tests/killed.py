"""Work that is killed at each of its steps in turn, in a process of its own."""

import os
import signal
import sys
from collections.abc import Callable

INTERRUPTED = 130


class Steps:
    """Callable that kills this process before its `last` step."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a fork of this process. Return its exit status: INTERRUPTED after Ctrl-C."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_each_step(work: Callable[[Steps], object], then: Callable[[], None] = lambda: None) -> int:
    """Repeat `work` until it completes, each time followed by `then`. Return the number of kills."""
    kills = 0
    while True:
        status = in_child(lambda: work(Steps(kills)))  # noqa: B023
        then()
        if status != -signal.SIGKILL:
            assert status == 0
            return kills
        kills += 1
