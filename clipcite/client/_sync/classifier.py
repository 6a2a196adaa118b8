# Generated from clipcite/client/_async/classifier.py by `python -m tests.repository.unasync`. Do not edit.
"""Classification of images and collections."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from clipcite.client._sync.transport import Transport
from clipcite.client.classification import (
    CLASSIFY_SECONDS,
    Answer,
    ClassNames,
    classify_request,
    given_options,
    image_parts,
    join_answers,
    part_results,
)
from clipcite.client.errors import InvalidImages, UnprocessableEntityError
from clipcite.client.request import Request
from clipcite.datasets.image import ImageFile, ImageLike, is_one_image
from clipcite.wire.base import MAX_COLLECTION_IMAGES
from clipcite.wire.predictions import Classification, CollectionAnswer, ImageResult


class Classifier:
    """Methods of the client that classify."""

    _transport: Transport

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_names: ClassNames | None = None,
        *,
        model: str = "stock",
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_class_balance: float | None = None,
        top_k: int | None = None,
        coverage: float | None = None,
        reject: bool = False,
        features: bool = False,
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
            reject: return per image `rejected`, True if the image resembles none of the classes.
            features: return per image `features`, for `classify_collection`.

        The results can be indexed: `client.classify("a.jpg", model="shoes")[0].class_name`. Each has the path
        of its image in `file`. An unreadable image has an `error` in its result.

        Raises:
            InvalidImages: `images` is empty, or one of them can't be sent.
            UnprocessableEntityError: no image is readable, or an argument is invalid.
        """
        given = [images] if is_one_image(images) else list(cast(Sequence[ImageLike], images))
        if not given:
            raise InvalidImages("No images to classify.")
        options = {
            "model": model,
            "alpha": alpha,
            "templates": templates,
            "new_class_balance": new_class_balance,
            "top_k": top_k,
            "coverage": coverage,
            "reject": reject,
            "features": features,
        }
        sent = list(image_parts(given))
        return join_answers([part for part in self._classified(sent, class_names, options)])

    def classify_collection(
        self,
        features: Sequence[str],
        class_names: ClassNames | None = None,
        *,
        model: str,
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_class_balance: float | None = None,
        top_k: int | None = None,
    ) -> CollectionAnswer:
        """Rank class names for the images of a collection, with all of its images as evidence.

        Args:
            features: `features` of up to 20,000 images, from `classify(…, features=True)` with the same
                `model` and `alpha`.

        Other arguments: see `classify`. `method` and `reason` of the answer say whether the images were used
        as evidence. Its results are in the order of `features`, without `file`.
        """
        options = {
            "model": model,
            "alpha": alpha,
            "templates": templates,
            "new_class_balance": new_class_balance,
            "top_k": top_k,
            "features": features,
        }
        request = Request(
            "POST",
            "/classify/collection",
            json=given_options(class_names, options),
            read_seconds=CLASSIFY_SECONDS,
        )
        return self._transport.fetch(CollectionAnswer, request)

    def sort(
        self,
        images: Sequence[ImageLike],
        class_names: ClassNames | None = None,
        *,
        model: str,
        top_k: int = 3,
        on_results: Callable[[list[ImageResult]], None] | None = None,
        **options: Any,
    ) -> CollectionAnswer:
        """Classify up to 20,000 images in parts, then once more as a collection.

        Images are read when they are sent; then each takes a few kB. Other arguments: see
        `classify_collection`.

        Args:
            on_results: called with the results of each part. The answer may differ from them. If the model of
                the reference changes meanwhile, all parts come again.

        Returns:
            The answer of `classify_collection`, with the path of each image in `file`. Unreadable images have
            an `error`.

        Raises:
            InvalidImages: there are no images or too many, or one of them can't be sent.
            UnprocessableEntityError: no image is readable, or an argument is invalid.
        """
        if not 1 <= len(images) <= MAX_COLLECTION_IMAGES:
            raise InvalidImages(f"Sort 1 to {MAX_COLLECTION_IMAGES:,} images at a time, not {len(images):,}.")
        options.update(model=model, top_k=top_k)
        while True:
            rows: list[ImageResult] = []
            models = set[tuple[str, str]]()
            asked = {**options, "features": True}
            for names, answer in self._classified(image_parts(images), class_names, asked):
                results = part_results(names, answer)
                if on_results is not None:
                    on_results(results)
                rows += [row.model_copy(update={"predictions": []}) for row in results]
                if isinstance(answer, Classification):
                    models.add((answer.model, answer.backbone))
                elif len(rows) == len(images) and not models:
                    raise answer.with_files(names)
            if len(models) == 1:  # else their features differ
                features = [row.features for row in rows if row.features is not None]
                collection = self.classify_collection(features, class_names, **options)
                if (collection.model, collection.backbone) in models:
                    break
        found = iter(collection.results)
        merged = [next(found) if row.error is None else row for row in rows]
        files = zip(merged, rows, strict=True)
        results = [result.model_copy(update={"file": row.file}) for result, row in files]
        return collection.model_copy(update={"results": results})

    def _classified(
        self,
        parts: Iterable[tuple[list[str], list[ImageFile]]],
        class_names: ClassNames | None,
        options: Mapping[str, Any],
    ) -> Iterator[tuple[list[str], Answer]]:
        """Send a request per part. Yield the local names of its images, and its response."""
        for names, files in parts:
            request = classify_request(files, class_names, options)
            try:
                answer: Answer = self._transport.fetch(Classification, request)
            except UnprocessableEntityError as error:
                if error.code != "bad_images":
                    raise
                answer = error
            yield names, answer
