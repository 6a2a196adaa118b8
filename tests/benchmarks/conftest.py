"""Settings shared by the tests of all benchmarks."""

from tests.core.clip.conftest import one_thread

__all__ = ["one_thread"]
