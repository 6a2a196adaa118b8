# Generated from clipcite/client/_async/classifier.py by `python -m tests.repository.unasync`. Do not edit.
"""Classification of images and collections."""

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from clipcite.client._sync.transport import Transport
from clipcite.client.classification import (
    CLASSIFY_BATCH_SIZE,
    ClassNames,
    classify_request,
    collection_request,
    join_responses,
    unreadable,
)
from clipcite.datasets.image import ImageLike, as_image, is_one_image
from clipcite.errors import InvalidImages, UnprocessableEntityError
from clipcite.types.classify import MAX_COLLECTION_IMAGES, MAX_GROUPS, STOCK
from clipcite.types.predictions import Classification, CollectionClassification, ImageResult


class Classifier:
    """The methods of a client that classify."""

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
            reject: return per image `rejected`: True if the image is something else, unlike the training
                images of all these classes.
            features: return per image `features`, for `classify_collection`.

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
            "reject": reject,
            "features": features,
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

    def classify_collection(
        self, features: Sequence[str], class_names: ClassNames | None = None, *, model: str, **options: Any
    ) -> CollectionClassification:
        """Rank class names for the images of a collection. Where it helps, images inform each other's result.

        Args:
            features: features of up to 20,000 images, from `classify(…, features=True)` with this model.
            class_names, model, options: as for `classify`, without `coverage`. More options are:
                `labels`, a mapping from positions to class names, or to None for none of these. Labelled
                images count as training images of this request;
                `suggest`, the number of images to return in `suggested`, those whose labels teach most;
                `groups`, the number of groups of similar images to return in `groups`.

        The results have the order of `features`, without `file`. `method` and `reason` say what was done.
        """
        request = collection_request(features, class_names, {"model": model, **options})
        return self._transport.fetch(CollectionClassification, request)

    def sort(
        self,
        images: Sequence[ImageLike],
        class_names: ClassNames | None = None,
        *,
        model: str,
        top_k: int = 3,
        on_results: Callable[[list[ImageResult]], None] | None = None,
        **options: Any,
    ) -> CollectionClassification:
        """Classify up to 20,000 images in parts, then once more with `classify_collection`.

        Args:
            on_results: called with the results of each part. The final result may differ from them.

        Other arguments: see `classify`, without `coverage`. The results have the paths of the images, and an
        `error` for images that can't be read.

        Raises:
            InvalidImages: images are missing or too many.
            UnprocessableEntityError: no image is readable, or an argument is invalid.
        """
        options["top_k"] = top_k
        model, rows = self._in_parts(images, class_names, model, on_results, options)
        features = [row.features for row in rows if row.features]
        collection = self.classify_collection(features, class_names, model=model, **options)
        if collection.model != model:  # the job has a model now, with other features than its preview
            model = collection.model
            return self.sort(images, class_names, model=model, on_results=on_results, **options)
        found = iter(collection.results)
        results = [next(found).model_copy(update={"file": r.file}) if r.features else r for r in rows]
        return collection.model_copy(update={"results": results})

    def group(self, images: Sequence[ImageLike], *, groups: int = MAX_GROUPS) -> list[list[ImageLike]]:
        """Group up to 20,000 images that look alike, without a model or class names.

        Args:
            groups: maximum number of groups. They have about 12 images each.

        Returns:
            Images of each group, the most typical first. The largest groups come first. Images that are
            unreadable or similar to few others are left out.

        Raises:
            InvalidImages: images are missing or too many.
            UnprocessableEntityError: no image is readable.
        """
        model, rows = self._in_parts(images, ["photo"], STOCK, None, {"top_k": 1})
        readable = [(image, row.features) for image, row in zip(images, rows, strict=True) if row.features]
        features = [each for _, each in readable]
        response = self.classify_collection(features, model=model, groups=groups)
        return [[readable[position][0] for position in group] for group in response.groups]

    def _in_parts(
        self,
        images: Sequence[ImageLike],
        class_names: ClassNames | None,
        model: str,
        on_results: Callable[[list[ImageResult]], None] | None,
        options: dict[str, Any],
    ) -> tuple[str, list[ImageResult]]:
        """Classify the images of a collection. Return the id of the model, and the results with features."""
        if not 1 <= len(images) <= MAX_COLLECTION_IMAGES:
            raise InvalidImages(f"Send 1 to {MAX_COLLECTION_IMAGES:,} images at a time, not {len(images):,}.")
        rows: list[ImageResult] = []
        first: str | None = None
        for end in range(CLASSIFY_BATCH_SIZE, len(images) + CLASSIFY_BATCH_SIZE, CLASSIFY_BATCH_SIZE):
            part = images[end - CLASSIFY_BATCH_SIZE : end]
            try:
                response = self.classify(part, class_names, model=model, features=True, **options)
            except UnprocessableEntityError as error:
                nothing = end >= len(images) and not any(row.features for row in rows)
                if error.code != "bad_images" or nothing:
                    raise
                results = unreadable(error, [item.file for item in error.errors])
            else:
                model, results = response.model, response.results  # the id, because an alias may move
                first = first or model
                if model != first:  # the job has a model now, with other features than its preview
                    return self._in_parts(images, class_names, model, on_results, options)
            if on_results is not None:
                on_results(results)
            rows += [row.model_copy(update={"predictions": []}) for row in results]
        return model, rows
