"""The pictures of one request, decoded once for all models that see them in the same way."""

from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import repeat

from torch import Tensor

from core.clip.backbone import Backbone
from core.clip.errors import BadPicture
from core.clip.images import PictureLimits, open_picture


class Pictures:
    """`files` as they came. Not for several threads: a request asks one model after another."""

    def __init__(self, files: Sequence[bytes], limits: PictureLimits, decoders: Executor) -> None:
        self._files = files
        self._limits = limits
        self._decoders = decoders
        self._decoded: dict[tuple[str, int], list[Tensor | BadPicture]] = {}

    def decoded(self, backbone: Backbone) -> list[Tensor | BadPicture]:
        """For each file what this backbone's network takes, [3, S, S], or why it can't be read."""
        key = (backbone.name, backbone.image_size)
        if key not in self._decoded:
            decoded = self._decoders.map(self._decode, self._files, repeat(backbone))
            self._decoded[key] = list(decoded)
        return self._decoded[key]

    def _decode(self, data: bytes, backbone: Backbone) -> Tensor | BadPicture:
        """Small at once, so that no more than a few whole pictures are in memory at a time."""
        try:
            picture = open_picture(data, self._limits, shortest_side=2 * backbone.image_size)
            return backbone.preprocess(picture)
        except BadPicture as problem:
            return problem
