# Generated from clipcite/client/_async/classifier.py by `python -m tests.repository.unasync`. Do not edit.
"""Classification of images."""

import os
from collections.abc import Sequence
from typing import Any, cast

from clipcite.client._sync.transport import Transport
from clipcite.client.classification import (
    CLASSIFY_BATCH_SIZE,
    ClassNamesLike,
    classify_request,
    join_responses,
)
from clipcite.datasets.image import ImageLike, as_image, is_one_image
from clipcite.errors import InvalidImages, UnprocessableEntityError
from clipcite.types.predictions import Classification


class Classifier:
    """The methods of a client that classify."""

    _transport: Transport

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_names: ClassNamesLike | None = None,
        *,
        model: str = "stock",
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_class_balance: float | None = None,
        top_k: int | None = None,
        coverage: float | None = None,
        something_else: bool = False,
    ) -> Classification:
        """Rank class names, trained or new, for each image. Many images are sent in several requests.

        Args:
            images: paths, bytes, PIL images or uint8 arrays [H, W, 3]; one or a list.
            class_names: class names, or a mapping from class names to their prompts (or None) (default: the
                classes that the model was trained on).
            model: id, name, `name@version`, `name@alias`, id of a job, or `stock`.
            alpha: mixing weight, 0 (pre-trained) to 1 (fine-tuned) (default: the model's).
            templates: prompt templates such as "a photo of a {}." (default: the model's).
            new_class_balance: factor of the offset against trained classes (default: the service's).
            top_k: number of classes per image (default: all).
            coverage: return per image a prediction set that contains the true class with this probability.
            something_else: return per image `something_else`: True if it is unlike the training
                images of all these classes.

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
        options: dict[str, Any] = {
            "alpha": alpha,
            "templates": None if templates is None else list(templates),
            "new_class_balance": new_class_balance,
            "top_k": top_k,
            "coverage": coverage,
            "something_else": something_else,
        }
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
