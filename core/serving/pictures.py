"""The pictures of one request, decoded once for all models that see them in the same way."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future

from torch import Tensor

from core.clip.backbone import Backbone
from core.clip.errors import BadPicture
from core.clip.images import PictureLimits, open_picture
from core.clip.pixels import Pixels


class Pictures:
    """`files` as they came. Not for several threads: a request asks one model after another."""

    def __init__(self, files: Sequence[bytes], limits: PictureLimits, decoders: Executor) -> None:
        self._files = files
        self._limits = limits
        self._decoders = decoders
        self._decoding: dict[tuple[str, int], list[Future[Tensor | BadPicture]]] = {}

    def decoded(self, backbone: Backbone, at_once: int) -> Iterator[list[Tensor | BadPicture]]:
        """For each file what its network takes (`Pixels.fit`), or why it can't be read: so many at a time, as
        soon as they are ready, while the next ones are still being decoded."""
        key = (backbone.name, backbone.image_size)
        if key not in self._decoding:
            self._decoding[key] = [self._decoders.submit(self._decode, f, backbone) for f in self._files]
        decoding = self._decoding[key]
        for start in range(0, len(decoding), at_once):
            yield [future.result() for future in decoding[start : start + at_once]]

    def _decode(self, data: bytes, backbone: Backbone) -> Tensor | BadPicture:
        try:
            return fitted(data, backbone, self._limits)
        except BadPicture as problem:
            return problem


def fitted(data: bytes, backbone: Backbone, limits: PictureLimits) -> Tensor:
    """A file as `Pixels.fit` leaves it: small at once, so that no more than a few whole pictures are in
    memory at a time. Raises BadPicture."""
    picture = open_picture(data, limits, shortest_side=2 * backbone.image_size)
    return Pixels(backbone.preprocess).fit(picture)
