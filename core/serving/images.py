"""The pictures of one request, decoded once for all models that see them in the same way."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from PIL import Image
from torch import Tensor

from core.clip.data.images import ImageLimits, open_image
from core.clip.data.transforms import Pixels
from core.clip.errors import BadImage
from core.clip.models.backbone import Backbone
from core.serving.decoding import Decoders, Decoding

Decoded = Tensor | BadImage


class Pictures:
    """`files` as they came. Not for several threads: a request asks one model after another."""

    def __init__(self, files: Sequence[bytes], limits: ImageLimits, decoders: Decoders, owner: str) -> None:
        self._files = files
        self._limits = limits
        self._decoders = decoders
        self._share = (owner, "classify")
        self._decoding: dict[tuple[str, int], list[Callable[[], Decoded]]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def decoded(self, backbone: Backbone, at_once: int) -> Iterator[list[Decoded]]:
        """For each file what its network takes (`Pixels.fit`), or why it can't be read: so many at a time, as
        soon as they are ready, while the next ones are still being decoded."""
        key = (backbone.name, backbone.image_size)
        if key not in self._decoding:
            self._decoding[key] = self._begin(backbone)
        decoding = self._decoding[key]
        for start in range(0, len(decoding), at_once):
            yield [result() for result in decoding[start : start + at_once]]

    def _begin(self, backbone: Backbone) -> list[Callable[[], Decoded]]:
        def fit(file: bytes, decoding: Decoding[Tensor]) -> Tensor:
            return fitted(file, backbone, self._limits, decoding.open_image)

        if len(self._files) == 1:
            here = partial(self._decoders.open_here, self._share)
            alone = _or_problem(lambda: fitted(self._files[0], backbone, self._limits, here))
            return [lambda: alone]
        works = [partial(fit, file) for file in self._files]
        decodings = self._decoders.submit(self._share, self, works)
        return [partial(_or_problem, decoding.result) for decoding in decodings]


def _or_problem(decode: Callable[[], Tensor]) -> Decoded:
    try:
        return decode()
    except BadImage as problem:
        return problem


def fitted(
    data: bytes,
    backbone: Backbone,
    limits: ImageLimits,
    open_image: Callable[..., Image.Image] = open_image,
) -> Tensor:
    """A file as `Pixels.fit` leaves it: small at once, so that no more than a few whole pictures are in
    memory at a time. Raises BadImage.

    Args:
        open_image: as `core.clip.data.images.open_image`, with a limiter.
    """
    return Pixels(backbone.preprocess).fit(open_image(data, limits, shortest_side=2 * backbone.image_size))
