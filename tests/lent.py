"""Decoder processes and backbones that the applications of a test process use one after the other.

Their start takes longer than most tests.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.clip.data.decoder import Decoder
from core.clip.data.decoders import Decoders
from core.clip.models.backbone import Backbone, load_backbone

_backbones: dict[tuple[Any, ...], Backbone] = {}


class LentDecoders(Decoders):
    """Decoders that take idle processes of closed applications and leave their own to later ones."""

    idle: ClassVar[list[Decoder]] = []

    def __init__(self, processes: int, owner: Callable[[], str]) -> None:
        super().__init__(processes, owner)
        while self.idle and len(self._idle) < processes:
            self._put_back(self.idle.pop())

    def close(self) -> None:
        with self._lock:
            self.idle.extend(self._idle)
            self._idle = []
        super().close()


def lent_backbone(name: str, *, cache: Path, **options: Any) -> Backbone:
    """Load a backbone, or return it again while its folder is unchanged."""
    folder = Path(name.removeprefix("local-dir:"))
    if not folder.is_dir():
        return load_backbone(name, cache=cache, **options)
    files = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    key = (name, *files, *options.items())
    if key not in _backbones:
        _backbones[key] = load_backbone(name, cache=cache, **options)
    return _backbones[key]


@contextmanager
def lent() -> Iterator[None]:
    """Let services in this context use both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.serving.service.Decoders", LentDecoders)
        patch.setattr("api.serving.pool.model_pool.load_backbone", lent_backbone)
        yield
