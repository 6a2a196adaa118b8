# Generated from clipcite/client/_async/classifier.py by `python -m tests.repository.unasync`. Do not edit.
"""Classification of images."""

import os
from collections.abc import Sequence
from typing import Unpack, cast

from clipcite.client._sync.transport import Transport
from clipcite.client.classification import (
    CLASSIFY_BATCH_SIZE,
    ClassNamesLike,
    classify_request,
    join_responses,
)
from clipcite.datasets.image import ImageLike, as_image, is_one_image
from clipcite.errors import InvalidImages, UnprocessableEntityError
from clipcite.types.classify import Classification, ClassifyOptions


class Classifier:
    """The methods of a client that classify."""

    _transport: Transport

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_names: ClassNamesLike | None = None,
        *,
        model: str = "stock",
        **options: Unpack[ClassifyOptions],
    ) -> Classification:
        """Rank class names, trained or new, for each image. Many images are sent in several requests.

        Args:
            images: paths, bytes, PIL images or uint8 arrays [H, W, 3]; one or a list.
            class_names: class names, or a mapping from class names to their prompts (or None) (default: the
                classes that the model was trained on).
            model: id, name, `name@version`, `name@alias`, id of a job, or `stock`.
            options: such as `top_k=3` (`clipcite.types.classify.ClassifyOptions`).

        The results can be indexed: `client.classify("a.jpg", model="shoes")[0].class_name`. Each has the path
        of its image in `file`. An unreadable image has an `error` in its result.

        Raises:
            InvalidImages: `images` is empty.
            UnprocessableEntityError: no image is readable, or an argument is invalid.
        """
        given = [images] if is_one_image(images) else list(cast(Sequence[ImageLike], images))
        files = [as_image(image, f"image-{i}") for i, image in enumerate(given, 1)]
        if not files:
            raise InvalidImages("The list of images is empty. Give at least one image.")
        names = [
            os.fspath(image) if isinstance(image, str | os.PathLike) else file.name
            for image, file in zip(given, files, strict=True)
        ]
        responses: list[Classification] = []
        refused: dict[int, UnprocessableEntityError] = {}
        for number, start in enumerate(range(0, len(files), CLASSIFY_BATCH_SIZE)):
            batch = files[start : start + CLASSIFY_BATCH_SIZE]
            request = classify_request(batch, class_names, model, options)
            try:
                response = self._transport.fetch(Classification, request)
            except UnprocessableEntityError as error:
                if error.code != "bad_images":
                    raise
                refused[number] = error
                continue
            model = response.model  # the id, because an alias may move
            if responses and model != responses[0].model:  # the job has a model now, and no longer a preview
                return self.classify(images, class_names, model=model, **options)
            responses.append(response)
        if not responses:
            first = refused[0]
            raise first.with_files(names)
        return join_responses(responses, refused, names)
