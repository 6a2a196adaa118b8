# Generated from clipcite/client/_async/client.py by `python -m tests.repository.unasync`. Do not edit.
"""The client of one service."""

import json
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from clipcite.client._sync.aliases import Aliases
from clipcite.client._sync.classifier import Classifier
from clipcite.client._sync.jobs import Job, Jobs
from clipcite.client._sync.models import Models
from clipcite.client._sync.transport import Transport
from clipcite.client.errors import InternalServerError, UnprocessableEntityError
from clipcite.client.request import M, OnUpload, Request, parse, path_of
from clipcite.client.retry import Retry
from clipcite.client.upload import CHECK_SECONDS, Adaptable, OnBadImage, Upload, upload_of
from clipcite.datasets.dataset import ByClass
from clipcite.wire.adapt import Preflight
from clipcite.wire.health import Readiness
from clipcite.wire.jobs import Job as JobData


class Client(Classifier):
    """Client of a clipcite service. Tasks may share a client.

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
        self._transport = Transport(base_url, api_key, retry, verify)
        self.jobs = Jobs(self._transport)
        self.models = Models(self, self._transport)
        self.aliases = Aliases(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def ready(self) -> Readiness:
        """Return the readiness of the service and its parts, even if it is not ready."""
        try:
            return self._transport.fetch(Readiness, Request("GET", "/readyz", read_seconds=10))
        except InternalServerError as error:
            if not isinstance(error.body, dict) or "parts" not in error.body:
                raise
            return parse(Readiness, error.body)

    def adapt(
        self,
        images: Adaptable | None,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> Job:
        """Upload labelled images and start a training job.

        Args:
            images: a folder (class folders, manifest or export of an annotation tool), a manifest, a
                zip, or a mapping from class names to paths, bytes, PIL images or uint8 arrays [H, W, 3].
                With `extends`, None uses only the corrections of that model.
            test: test images, if `images` is a mapping.
            extends: a model to extend. Its training images and corrections are added to `images`. Its name
                and settings are the defaults. The model itself does not change.
            name: name of the job and its model.
            config: settings such as `{"epochs": 10}`; the backbone's recipe supplies the others.
            on_bad_image: "fail" rejects an upload with unusable images, "skip" ignores these images.
            webhook: URL that receives a signed notification when the job ends.
            idempotency_key: key that prevents a second job if the upload is repeated (default: a new key).
            on_upload: called with the bytes sent and their total number.

        Raises:
            InvalidImages: unsupported input; nothing was sent.
            UnprocessableEntityError: `errors` names each unusable image.
        """
        upload = upload_of(images, test)
        options = {"name": name, "webhook": webhook, "on_bad_image": on_bad_image}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        path = path_of("models", extends, "extend") if extends is not None else "/adapt"
        sent = (upload, path, options, config, on_upload)
        return self.jobs._bind(self._send_upload(JobData, *sent, headers=headers))

    def preflight(
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
        upload = upload_of(images, test)
        options = {"on_bad_image": on_bad_image}
        path = path_of("models", extends, "extend") if extends is not None else "/adapt"
        sent = (upload, path, options, config, on_upload)
        checked = self._send_upload(Preflight, *sent, query={"dry_run": "true"})
        for finding in checked.findings:
            finding.file = upload.local_name(finding.file)
            finding.other = finding.other and upload.local_name(finding.other)
        return checked

    def _send_upload(
        self,
        kind: type[M],
        upload: Upload,
        path: str,
        options: Mapping[str, str | None],
        config: Mapping[str, Any] | None = None,
        on_upload: OnUpload | None = None,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
    ) -> M:
        """Send labelled images, then close their files. Errors have the names of local files."""
        texts = {**options, "config": json.dumps(config) if config else None}
        fields = {field: [value] for field, value in texts.items() if value is not None}
        request = Request(
            "POST",
            path,
            query,
            headers,
            fields=fields | dict(upload.fields),
            files=upload.files,
            on_upload=on_upload,
            read_seconds=CHECK_SECONDS,
        )
        try:
            return self._transport.fetch(kind, request)
        except UnprocessableEntityError as error:
            names = [item.file and upload.local_name(item.file) for item in error.errors]
            raise error.with_files(names) from None
        finally:
            upload.close()
