"""The two files of a table: complete and unchanged after concurrent writes and kills."""

import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from benchmarks import run_store
from benchmarks.run_store import RunStore, pack, unpack
from tests.killed import Steps, in_child

TRUTH = np.array([2, 0, 1])
NAMES = np.array(["grün", "red", "blue"])


def matrix(seed: int, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 1, shape).astype(np.float32)


def add(store: RunStore, key: str, seed: int) -> None:
    store.add(
        key, {"seconds": 1.5, "label": "α = 0.5"}, {"truth": TRUTH, "names": NAMES}, {"s": matrix(seed)}
    )


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.one_of(st.just(-np.inf), st.floats(-50, 50, width=32)),
    )
)
@settings(max_examples=200)
def test_the_error_is_half_a_step(scores: np.ndarray) -> None:
    codes, facts = pack(scores)
    found = unpack(codes, facts["offset"], facts["scale"])
    finite = np.isfinite(scores)
    assert codes.dtype == np.uint16
    assert np.array_equal(np.isneginf(found), ~finite)
    known = scores[finite].astype(np.float64)
    span = known.max() - known.min() if known.size else 0.0
    error = np.abs(found[finite] - known).max(initial=0.0)
    rounding = np.abs(known).max(initial=0.0) * 2**-23  # The rounding of float32.
    assert error <= span / 2 / run_store.CODES + rounding
    assert error == facts["max_error"]
    if span < 1.3 and np.abs(known).max(initial=0.0) < 1:
        assert error < 1e-5


def _kill_when_replacing(folder: Path, name: str) -> None:
    """Add run "b", and die once the new file lies beside the old one."""
    replace = Path.replace

    def dying(path: Path, target: Path) -> Path:
        if target.name == name:
            Steps(0)()
        return replace(path, target)

    Path.replace = dying  # type: ignore[method-assign,assignment]
    add(RunStore(folder, "methods"), "b", 2)


@pytest.mark.parametrize("name", ["runs-methods.npz", "runs-methods.json"])
def test_a_killed_writer_leaves_the_table_whole(tmp_path: Path, name: str) -> None:
    store = RunStore(tmp_path, "methods")
    add(store, "a", 1)
    assert in_child(partial(_kill_when_replacing, tmp_path, name)) == -signal.SIGKILL
    assert store.names() == ["a"]
    add(store, "b", 2)
    for key, seed in (("a", 1), ("b", 2)):
        run = store.get(key)
        assert np.array_equal(run.array("truth"), TRUTH)
        np.testing.assert_allclose(run.scores("s"), matrix(seed), rtol=0, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs-methods.json", "runs-methods.npz"]
