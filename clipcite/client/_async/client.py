"""The client of one service."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import anyio.to_thread

from clipcite.client._async.aliases import AsyncAliases
from clipcite.client._async.jobs import AsyncJob, AsyncJobs
from clipcite.client._async.models import AsyncModels
from clipcite.client._async.transport import AsyncTransport
from clipcite.client.classification import (
    CLASSIFY_BATCH_SIZE,
    ClassNames,
    classify_request,
    collection_request,
    join_answers,
    unreadable,
)
from clipcite.client.errors import InternalServerError, InvalidImages, UnprocessableEntityError
from clipcite.client.request import M, OnUpload, Request, parse
from clipcite.client.retry import Retry
from clipcite.client.upload import Adaptable, OnBadImage, Upload, adapt_request, upload_of
from clipcite.datasets.dataset import ByClass
from clipcite.datasets.image import ImageLike, as_image, is_one_image
from clipcite.wire.adapt import Preflight
from clipcite.wire.base import MAX_COLLECTION_IMAGES
from clipcite.wire.health import Readiness
from clipcite.wire.jobs import Job as JobData
from clipcite.wire.predictions import Classification, CollectionAnswer, ImageResult


class AsyncClient:
    """Client of a clipcite service, for asyncio and trio. One client may be shared by tasks.

    Args:
        base_url: address of the service (default: CLIPCITE_URL, or http://127.0.0.1:8000).
        api_key: API key (default: CLIPCITE_API_KEY; on loopback also the token in CLIPCITE_DATA).
        retry: retry policy; `Retry(attempts=1)` disables retries.
        verify: False, or an `ssl.SSLContext`, for certificates unknown to this machine.

    Attributes:
        jobs: training jobs: `list`, `get`, `wait`, `cancel`, `delete`, `report` …
        models: adapted models: `list`, `get`, `rename`, `export`, `import_model`, `delete`.
        aliases: references such as `shoes@prod`: `list`, `get`, `promote`, `rollback`, `delete`.

    Every method raises `APIConnectionError` without a response, and `APIStatusError` for an error response.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: Retry = Retry(),
        verify: Any = True,
    ) -> None:
        self._transport = AsyncTransport(base_url, api_key, retry, verify)
        self.jobs = AsyncJobs(self._transport)
        self.models = AsyncModels(self, self._transport)
        self.aliases = AsyncAliases(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    async def ready(self) -> Readiness:
        """Return the readiness of the service and of its parts, also if it is not ready."""
        try:
            return await self._transport.fetch(Readiness, Request("GET", "/readyz", read_seconds=10))
        except InternalServerError as error:
            if not isinstance(error.body, dict) or "parts" not in error.body:
                raise
            return parse(Readiness, error.body)

    async def adapt(
        self,
        images: Adaptable,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> AsyncJob:
        """Upload labelled images and start a training job.

        Args:
            images: a folder (class folders, manifest or export of an annotation tool), a manifest, a
                zip, or a mapping from class names to paths, bytes, PIL images or uint8 arrays [H, W, 3].
            test: test images, if `images` is a mapping.
            extends: a model to extend. Its training images are added to `images`; its name and settings are
                the defaults. The model itself does not change.
            name: name of the job and its model.
            config: settings such as `{"epochs": 10}`; the backbone's recipe supplies the others.
            on_bad_image: "fail" rejects an upload with unusable images, "skip" ignores these images.
            webhook: URL that receives a signed notification when the job ends.
            idempotency_key: key under which a repeated upload creates no second job (default: a new key).
            on_upload: called with the bytes sent and their total number.

        Raises:
            InvalidImages: unsupported input; nothing was sent.
            UnprocessableEntityError: `errors` names each unusable image.
        """
        upload = await anyio.to_thread.run_sync(upload_of, images, test)
        options = {"name": name, "webhook": webhook, "on_bad_image": on_bad_image}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        request = adapt_request(upload, extends, options, config, on_upload, headers=headers)
        return self.jobs._bind(await self._send_upload(JobData, upload, request))

    async def preflight(
        self,
        images: Adaptable,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        on_upload: OnUpload | None = None,
    ) -> Preflight:
        """Check images and class names as `adapt` would, and estimate the cost of the training.

        Nothing is stored. Unusable images are findings, not errors. Arguments: see `adapt`.
        """
        upload = await anyio.to_thread.run_sync(upload_of, images, test)
        options = {"on_bad_image": on_bad_image}
        request = adapt_request(upload, extends, options, config, on_upload, query={"dry_run": "true"})
        checked = await self._send_upload(Preflight, upload, request)
        findings = [
            finding.model_copy(
                update={
                    "file": upload.local_name(finding.file) or finding.file,
                    "other": upload.local_name(finding.other),
                }
            )
            for finding in checked.findings
        ]
        return checked.model_copy(update={"findings": findings})

    async def classify(
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
            InvalidImages: `images` is empty.
            UnprocessableEntityError: no image is readable, or an argument is invalid.
        """
        given = [images] if is_one_image(images) else list(cast(Sequence[ImageLike], images))
        files = [as_image(image, f"image-{i}") for i, image in enumerate(given, 1)]
        if not files:
            raise InvalidImages("No images to classify.")
        names = [
            os.fspath(image) if isinstance(image, str | os.PathLike) else file.name
            for image, file in zip(given, files, strict=True)
        ]
        options = {
            "alpha": alpha,
            "templates": None if templates is None else list(templates),
            "new_class_balance": new_class_balance,
            "top_k": top_k,
            "coverage": coverage,
            "reject": reject,
            "features": features,
        }
        answers: list[Classification] = []
        refused: dict[int, UnprocessableEntityError] = {}
        for number, start in enumerate(range(0, len(files), CLASSIFY_BATCH_SIZE)):
            batch = files[start : start + CLASSIFY_BATCH_SIZE]
            request = await anyio.to_thread.run_sync(classify_request, batch, class_names, model, options)
            try:
                answers.append(await self._transport.fetch(Classification, request))
            except UnprocessableEntityError as error:
                if error.code != "bad_images":
                    raise
                refused[number] = error
        if not answers:
            first = refused[0]
            raise first.with_files(names)
        return join_answers(answers, refused, names)

    async def classify_collection(
        self, features: Sequence[str], class_names: ClassNames | None = None, *, model: str, **options: Any
    ) -> CollectionAnswer:
        """Rank class names for the images of a collection, with all of them as evidence where that helps.

        Args:
            features: those of up to 20,000 images, from `classify(…, features=True)` with this model.
            class_names, model, options: those of `classify`, without `coverage` and `reject`.

        The results have the order of `features`, without `file`. `method` and `reason` say what was done.
        """
        request = collection_request(features, class_names, {"model": model, **options})
        return await self._transport.fetch(CollectionAnswer, request)

    async def sort(
        self,
        images: Sequence[ImageLike],
        class_names: ClassNames | None = None,
        *,
        model: str,
        top_k: int = 3,
        on_results: Callable[[list[ImageResult]], None] | None = None,
        **options: Any,
    ) -> CollectionAnswer:
        """Classify up to 20,000 images in parts, then once more by `classify_collection`.

        Args:
            on_results: called with the results of each part. The answer may differ from them.

        Other arguments: see `classify_collection`. The results have the paths of the images, and an `error`
        for images that can't be read.

        Raises:
            InvalidImages: there are no images or too many.
            UnprocessableEntityError: no image is readable, or an argument is invalid.
        """
        if not 1 <= len(images) <= MAX_COLLECTION_IMAGES:
            raise InvalidImages(f"Sort 1 to {MAX_COLLECTION_IMAGES:,} images at a time, not {len(images):,}.")
        options["top_k"] = top_k
        rows: list[ImageResult] = []
        for end in range(CLASSIFY_BATCH_SIZE, len(images) + CLASSIFY_BATCH_SIZE, CLASSIFY_BATCH_SIZE):
            part = images[end - CLASSIFY_BATCH_SIZE : end]
            try:
                answer = await self.classify(part, class_names, model=model, features=True, **options)
            except UnprocessableEntityError as error:
                nothing = end >= len(images) and not any(row.features for row in rows)
                if error.code != "bad_images" or nothing:
                    raise
                results = unreadable(error, [item.file for item in error.errors])
            else:
                model, results = answer.model, answer.results  # its id, because an alias may move
            if on_results is not None:
                on_results(results)
            rows += [row.model_copy(update={"predictions": []}) for row in results]
        features = [row.features for row in rows if row.features]
        collection = await self.classify_collection(features, class_names, model=model, **options)
        if collection.model != model:  # a job has its model now, whose features are others
            model = collection.model
            return await self.sort(images, class_names, model=model, on_results=on_results, **options)
        found = iter(collection.results)
        results = [next(found).model_copy(update={"file": r.file}) if r.features else r for r in rows]
        return collection.model_copy(update={"results": results})

    async def _send_upload(self, kind: type[M], upload: Upload, request: Request) -> M:
        """Send labelled images, and close their files. Errors name the local files."""
        try:
            return await self._transport.fetch(kind, request)
        except UnprocessableEntityError as error:
            raise error.with_files([upload.local_name(item.file) for item in error.errors]) from None
        finally:
            upload.close()
