"""The pictures of one request, decoded once for all models that see them in the same way."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from torch import Tensor

from core.clip.backbone import Backbone
from core.clip.errors import BadPicture
from core.clip.images import PictureLimits, open_picture
from core.clip.pixels import Pixels
from core.serving.threads import single_threaded

Decoded = Tensor | BadPicture


class Decoders:
    """Few pictures are decoded at a time: a whole one may take 100 MB."""

    def __init__(self, count: int) -> None:
        self._pool = single_threaded(count, "decoder")
        self._at_once = threading.Semaphore(count)

    def submit(self, decode: Callable[[bytes], Decoded], files: Sequence[bytes]) -> list[Future[Decoded]]:
        """The only picture of a request in the request's own thread: there is nothing to be done meanwhile,
        and to hand it over takes time."""
        if len(files) > 1:
            return [self._pool.submit(self._decode, decode, file) for file in files]
        decoded: Future[Decoded] = Future()
        decoded.set_result(self._decode(decode, files[0]))
        return [decoded]

    def _decode(self, decode: Callable[[bytes], Decoded], file: bytes) -> Decoded:
        with self._at_once:
            return decode(file)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Pictures:
    """`files` as they came. Not for several threads: a request asks one model after another."""

    def __init__(self, files: Sequence[bytes], limits: PictureLimits, decoders: Decoders) -> None:
        self._files = files
        self._limits = limits
        self._decoders = decoders
        self._decoding: dict[tuple[str, int], list[Future[Decoded]]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def decoded(self, backbone: Backbone, at_once: int) -> Iterator[list[Decoded]]:
        """For each file what its network takes (`Pixels.fit`), or why it can't be read: so many at a time, as
        soon as they are ready, while the next ones are still being decoded."""
        key = (backbone.name, backbone.image_size)
        if key not in self._decoding:
            self._decoding[key] = self._decoders.submit(
                lambda file: self._decode(file, backbone), self._files
            )
        decoding = self._decoding[key]
        for start in range(0, len(decoding), at_once):
            yield [future.result() for future in decoding[start : start + at_once]]

    def _decode(self, data: bytes, backbone: Backbone) -> Decoded:
        try:
            return fitted(data, backbone, self._limits)
        except BadPicture as problem:
            return problem


def fitted(data: bytes, backbone: Backbone, limits: PictureLimits) -> Tensor:
    """A file as `Pixels.fit` leaves it: small at once, so that no more than a few whole pictures are in
    memory at a time. Raises BadPicture."""
    picture = open_picture(data, limits, shortest_side=2 * backbone.image_size)
    return Pixels(backbone.preprocess).fit(picture)
