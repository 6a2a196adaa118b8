"""Search for the files that manifests and exports name."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from clipcite.datasets.class_folders import images_below
from clipcite.datasets.dataset import count_noun

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""Prefix that Label Studio adds to the names of uploaded files."""


def find_files(root: Path, names: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the files below `root`, by path first, then by unique file name.

    A file that several names refer to is not taken by its file name: its label would be a guess.

    Args:
        root: the folder.
        names: paths, URLs, or `/data/upload/…` and `/data/local-files/?d=…` of Label Studio.

    Returns:
        The file of each name that was found, and notes about files found in another folder.
    """
    found: dict[str, Path] = {}
    others: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = name.replace("\\", "/")
        parts = urlsplit(plain) if "://" in plain or "?d=" in plain else None
        if parts is not None:
            plain = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        for path in (root / plain, root / plain.lstrip("/")):
            if os.path.isfile(path):  # noqa: PTH113 - False if the name is too long
                found[name] = path
                break
        else:
            others[name] = plain
    if not others:
        return found, []
    below: dict[str, list[Path]] = {}
    for path in images_below(root):
        below.setdefault(path.name, []).append(path)
    by_name: dict[str, Path] = {}
    for name, plain in others.items():
        last = plain.rpartition("/")[2]
        for known in (last, _UPLOADED.sub("", last)):
            if len(below.get(known, [])) == 1:
                by_name[name] = below[known][0]
                break
    uses = Counter([*found.values(), *by_name.values()])
    by_name = {name: path for name, path in by_name.items() if uses[path] == 1}
    # URLs and uploads say nothing about the folder on this machine.
    moved = [n for n in by_name if "/" in others[n] and "://" not in n and not n.startswith("/data/")]
    notes = []
    if moved:
        at = by_name[moved[0]].relative_to(root)
        notes = [f"matched {count_noun(len(moved), 'file')} by name only ({moved[0]} is {at}, …)"]
    return found | by_name, notes
