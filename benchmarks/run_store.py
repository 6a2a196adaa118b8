"""Stored runs of a benchmark: arrays in one .npz file, all else in one .json file.

Arrays are named by the hash of their content, so runs with the same test images share their labels. Score
matrices are rounded to 16 bits. Several processes may add to the same files.
"""

import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
CODES = 2**16 - 2
"""Steps between the smallest and the largest score. Code 0 is left for -inf."""


@dataclass(frozen=True)
class Run:
    """One stored run."""

    record: Mapping[str, Any]
    """JSON values: seconds, versions, figures."""
    arrays: Mapping[str, str]
    """Name in the .npz file by array name."""
    matrices: Mapping[str, Mapping[str, Any]]
    """Array, offset, scale and largest error by name of the score matrix."""
    read: Callable[[str], Array]

    def array(self, name: str) -> Array:
        return self.read(self.arrays[name])

    def scores(self, name: str) -> Floats:
        """Return the matrix [N, C], rounded. Runs packed before 0.2.0 have none."""
        kept = self.matrices[name]
        return unpack(self.read(kept["array"]), kept["offset"], kept["scale"])


class RunStore:
    """The runs in FOLDER/runs-NAME.npz and FOLDER/runs-NAME.json."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.json, self.npz = folder / f"runs-{name}.json", folder / f"runs-{name}.npz"

    def get(self, key: str) -> Run | None:
        """Return a run, or None if it is not stored."""
        entry = self._entries().get(key)
        if entry is None:
            return None
        return Run(entry["record"], entry["arrays"], entry["scores"], self._read)

    def names(self) -> list[str]:
        return list(self._entries())

    def add(
        self,
        key: str,
        record: Mapping[str, Any],
        arrays: Mapping[str, Array],
        scores: Mapping[str, Floats] | None = None,
    ) -> None:
        """Store a run atomically: the run exists once the .json file names it.

        Args:
            scores: matrices [N, C], stored with 16 bits; -inf is kept.
        """
        packed = {name: pack(matrix) for name, matrix in (scores or {}).items()}
        contents = {name: _content_name(array) for name, array in arrays.items()}
        codes = {name: _content_name(matrix) for name, (matrix, _) in packed.items()}
        matrices = {name: {"array": codes[name], **facts} for name, (_, facts) in packed.items()}
        new: dict[str, Array] = {contents[name]: array for name, array in arrays.items()}
        new |= {codes[name]: matrix for name, (matrix, _) in packed.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder):
            entries = {**self._entries(), key: {"record": record, "arrays": contents, "scores": matrices}}
            with _replacing(self.npz) as file:
                if self.npz.exists():
                    with self.npz.open("rb") as before:
                        shutil.copyfileobj(before, file)
                with zipfile.ZipFile(file, "a") as archive:
                    kept = set(archive.namelist())
                    for name, array in new.items():
                        if f"{name}.npy" not in kept:
                            _append(archive, f"{name}.npy", array)
            with _replacing(self.json) as file:
                lines = (f"{_json(key)}: {_json(entry)}" for key, entry in entries.items())
                file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())

    def _entries(self) -> dict[str, Any]:
        return _entries(self.json, _version(self.json)) if self.json.exists() else {}

    def _read(self, name: str) -> Array:
        array: Array = _arrays(self.npz, _version(self.npz))[name]
        return array


def pack(matrix: Floats) -> tuple[NDArray[np.uint16], dict[str, float]]:
    """Round scores to 16 bits.

    The error is half a step: below 1e-5 if the scores span less than 1.31, else the span / 131,068.

    Returns:
        The codes [N, C], and `offset`, `scale` and `max_error`, the largest error that occurred.

    Raises:
        ValueError: the scores contain NaN or +inf.
    """
    finite = np.isfinite(matrix)
    if not (finite | np.isneginf(matrix)).all():
        raise ValueError("Scores contain NaN or +inf. Store finite scores, or -inf for no score.")
    known = matrix[finite].astype(np.float64)
    offset, largest = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    scale = (largest - offset) / CODES
    codes = np.zeros(matrix.shape, dtype=np.uint16)
    codes[finite] = 1 + (np.rint((known - offset) / scale) if scale else 0)
    error = np.abs(unpack(codes, offset, scale)[finite] - known).max(initial=0.0)
    return codes, {"offset": offset, "scale": scale, "max_error": float(error)}


def unpack(codes: NDArray[np.uint16], offset: float, scale: float) -> Floats:
    return np.where(codes == 0, -np.inf, offset + scale * (codes.astype(np.float64) - 1)).astype(np.float32)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _content_name(array: Array) -> str:
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()).hexdigest()[:20]


def _append(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    member = zipfile.ZipInfo(name)  # no timestamp, so that equal runs make equal files
    member.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(member, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder for writing. The kernel releases the lock of a process that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a temporary file that atomically replaces `path` when the block ends."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w+b") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _version(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _entries(path: Path, version: tuple[int, ...]) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return entries


@lru_cache(maxsize=8)
def _arrays(path: Path, version: tuple[int, ...]) -> Any:
    return np.load(path, allow_pickle=False)
