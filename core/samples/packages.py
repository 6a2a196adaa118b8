"""Files of the packages that the samples use, pinned by SHA-256."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from core.samples.sample import SampleUnavailable


def missing(package: str) -> str | None:
    """Return the reason and the remedy if the package is not installed."""
    if _folder(package) is not None:
        return None
    return (
        f"The package {package.replace('_', '-')} is not installed. Install it with "
        "`pip install '.[samples]'` in a checkout of clipcite."
    )


def package_files(package: str, relatives: Sequence[str], sha256: str) -> list[Path]:
    """Return files of an installed package. `sha256` is the hash of their contents in this order.

    Raises:
        SampleUnavailable: the package is not installed, or has other files.
    """
    folder = _folder(package)
    if folder is None:
        raise SampleUnavailable(missing(package) or package)
    paths = [folder / relative for relative in relatives]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() if path.is_file() else b"")
    if digest.hexdigest() != sha256:
        raise SampleUnavailable(
            f"The files of the package {package.replace('_', '-')} have another SHA-256 than the sample "
            "needs. Install the package again."
        )
    return paths


def _folder(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
