"""Training from labelled images, and their preflight."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import anyio.to_thread

from clipcite.client._async.classifier import AsyncClassifier
from clipcite.client._async.jobs import AsyncJob, AsyncJobs
from clipcite.client.request import M, OnUpload, Request, path_of
from clipcite.client.upload import CHECK_SECONDS, Adaptable, OnBadImage, Upload, upload_of
from clipcite.datasets.dataset import ByClass
from clipcite.errors import UnprocessableEntityError
from clipcite.types.adapt import Preflight
from clipcite.types.jobs import Job as JobData
from clipcite.types.piles import Pile


class AsyncAdapter(AsyncClassifier):
    """The methods of a client that classify, and those that train."""

    jobs: AsyncJobs

    async def adapt(
        self,
        images: Adaptable | None = None,
        *,
        pile: str | Pile | None = None,
        pile_drawn: Literal["test", "train"] = "test",
        test: ByClass | None = None,
        extends: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> AsyncJob:
        """Upload labelled images, or take those of a pile, and start a training job.

        Args:
            images: a folder (class folders, manifest or export of an annotation tool), a manifest, a
                zip, or a mapping from class names to paths, bytes, PIL images or uint8 arrays [H, W, 3].
                With `extends`, None uses only the corrections of that model.
            pile: a pile or its id, whose labelled images are training images. Those drawn at random are
                test images; with `pile_drawn="train"` they are trained on, too.
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
        upload = await anyio.to_thread.run_sync(upload_of, images, test)
        options = {"name": name, "webhook": webhook, "on_bad_image": on_bad_image}
        options |= _pile_options(pile, pile_drawn)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        path = path_of("models", extends, "extend") if extends is not None else "/adapt"
        sent = (upload, path, options, config, on_upload)
        return self.jobs._bind(await self._send_upload(JobData, *sent, headers=headers))

    async def preflight(
        self,
        images: Adaptable | None = None,
        *,
        pile: str | Pile | None = None,
        pile_drawn: Literal["test", "train"] = "test",
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
        options = {"on_bad_image": on_bad_image, **_pile_options(pile, pile_drawn)}
        path = path_of("models", extends, "extend") if extends is not None else "/adapt"
        sent = (upload, path, options, config, on_upload)
        checked = await self._send_upload(Preflight, *sent, query={"dry_run": "true"})
        for finding in checked.findings:
            finding.file = upload.local_name(finding.file)
            finding.other = finding.other and upload.local_name(finding.other)
        return checked

    async def _send_upload(
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
            return await self._transport.fetch(kind, request)
        except UnprocessableEntityError as error:
            names = [item.file and upload.local_name(item.file) for item in error.errors]
            raise error.with_files(names) from None
        finally:
            upload.close()


def _pile_options(pile: str | Pile | None, drawn: Literal["test", "train"]) -> dict[str, str | None]:
    """Return the fields for a pile, which are None without one."""
    if pile is None:
        return {}
    return {"pile": pile if isinstance(pile, str) else pile.id, "pile_drawn": drawn}
