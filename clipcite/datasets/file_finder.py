"""Search for the files that manifests and exports name."""

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from clipcite.datasets.class_folders import images_below

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""Prefix that Label Studio adds to the names of uploaded files."""


class Finder:
    """Search below a folder, by path first, then by unique file name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, named: str) -> Path | None:
        """Return the file that `named` refers to, or None.

        Args:
            named: a path, a URL, or `/data/upload/…` and `/data/local-files/?d=…` of Label Studio.
        """
        plain = named.replace("\\", "/")
        parts = urlsplit(plain) if "://" in plain or "?d=" in plain else None
        if parts is not None:
            plain = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        for path in (self._root / plain, self._root / plain.lstrip("/")):
            if path.is_file():
                return path
        name = plain.rpartition("/")[2]
        for known in (name, _UPLOADED.sub("", name)):
            candidates = self._named(known)
            if len(candidates) == 1:
                return candidates[0]
        return None

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for path in images_below(self._root):
                self._by_name.setdefault(path.name, []).append(path)
        return self._by_name.get(name, [])
