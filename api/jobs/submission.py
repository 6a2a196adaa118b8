"""Submission of training jobs: validation of the upload, storage of its images, creation of the job."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from api import quotas
from api.deps import Services, from_state
from api.http.problems import InvalidRequest, invalid_model, json_or_invalid
from api.jobs.form import ImagesForm, JobForm
from api.jobs.preflight import preflight
from api.jobs.responses import job_response
from api.jobs.upload import ReceivedUpload, ValidatedUpload, validate_upload
from api.serving.previews import JobPreview
from clipcite.types.adapt import AdaptConfig, Preflight
from clipcite.types.class_names import same_class
from clipcite.types.images import Image
from clipcite.types.jobs import Job
from core.clip.config import STARTER, check_settings, resolve
from core.clip.errors import UnknownBackbone
from core.clip.models.sources import find_source
from core.scratch import scratch_folder
from core.settings import Settings
from core.store import backbones
from core.store.accounts import audit, idempotency, owners
from core.store.accounts.idempotency import IdempotencyClaim
from core.store.db import tables
from core.store.db.ids import new_id
from core.store.jobs import jobs, lifecycle, stats
from core.store.jobs.lifecycle import NewJob
from core.store.registry.references import clean_name
from core.store.storage import deletions, installation
from core.url_guard import InvalidDestination, NotPublic, parse

POLL_SECONDS = 2


class JobSubmission(Services):
    """Service that creates jobs from uploads."""

    def submit(
        self,
        form: JobForm,
        owner: str,
        settings: AdaptConfig,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        kept: Sequence[Image] = (),
        warnings: Sequence[dict[str, str]] = (),
    ) -> Response:
        """Respond with a new job, the job of an earlier request with the same key, or the preflight.

        Args:
            settings: settings that were given. The recipe completes them once the images are counted.
            dry_run: respond with the preflight.
            idempotency_key: key of the request.
            kept: stored images of an earlier job.
            warnings: warnings about `kept`.

        Raises:
            ExpectedError: the upload or an option is invalid, a quota is exceeded, or a store failed.
        """
        with self.database.read() as session:
            settings = self._checked(settings, backbones.default(session, self.settings))
        name, webhook = clean_name(form.name), _checked_webhook(form.webhook, self.settings)
        sent = form.model_copy(update={"on_bad_image": "skip"}) if dry_run else form
        with self.validated(sent, owner, kept=kept, warnings=warnings) as validated:
            trained = sum(image.split == "train" for image in validated.images)
            config = resolve(settings, trained)
            with self.database.read() as session:
                past = stats.recent_successes(session, backbone=config.backbone, image_size=config.image_size)
            checked = preflight(
                validated,
                config,
                past,
                more_warnings=_config_warnings(config, validated),
                settings=self.settings,
                skips_bad=form.on_bad_image == "skip",
            )
            if dry_run:
                return _json(checked, 200)
            claim = None
            if idempotency_key is not None:
                digest = fingerprint(
                    validated, config, name=name, on_bad_image=form.on_bad_image, webhook=webhook
                )
                claim = IdempotencyClaim(idempotency_key, digest)
                with self.database.read() as session:
                    job = idempotency.find(session, owner, claim)
                    if job is not None:
                        return _accepted(job_response(session, job), replayed=True)
            return self._store(validated, checked, config, claim, owner=owner, name=name, webhook=webhook)

    def _checked(self, settings: AdaptConfig, default: str) -> AdaptConfig:
        """Return the settings with a backbone, by default this one."""
        checked = check_settings({"backbone": default, **settings.model_dump(exclude_unset=True)})
        backbone = checked.backbone
        if not self.serving.has_backbone(backbone):
            find_source(backbone)  # raises its own error for a name that nobody can install
            raise UnknownBackbone(
                f"{backbone!r} is not installed here. Name another `backbone`, such as {STARTER!r}, or "
                "choose another default in the page or with `clipcite backbones use`. The operator installs "
                "it with `clipcite backbones pull`, or offers it in CLIPCITE_BACKBONES."
            )
        return checked

    @contextmanager
    def validated(self, form: ImagesForm, owner: str, **more: Any) -> Iterator[ValidatedUpload]:
        """Check the images of a form. Their files exist until the context ends.

        Args:
            more: other fields of `ReceivedUpload`.

        Raises:
            InvalidUpload, ArchiveError: images are missing or bad.
        """
        with self.scratch.hold(owner) as take, scratch_folder(self.scratch.root) as folder:
            decoders = self.serving.decoding
            yield validate_upload(
                ReceivedUpload(form, folder, take, self.settings, decoders, self.blobs, **more)
            )

    def _store(
        self,
        validated: ValidatedUpload,
        checked: Preflight,
        config: AdaptConfig,
        claim: IdempotencyClaim | None,
        *,
        owner: str,
        name: str | None,
        webhook: str | None,
    ) -> Response:
        """Store the blobs, then the rows that refer to them. A failure removes both."""
        installation.check(self.database, self.blobs)
        job_id = new_id("job")
        with deletions.unless_kept(self.database, self.blobs, jobs.blobs_of(job_id)):
            images = jobs.store_images(self.blobs, jobs.blobs_of(job_id), validated.images)
            with self.database.write() as session:
                new = NewJob(
                    id=job_id,
                    owner=owner,
                    name=name,
                    config=config.model_dump(),
                    classes=[dict(count) for count in validated.classes],
                    warnings=[warning.model_dump() for warning in checked.warnings],
                    images=images,
                    webhook=webhook,
                )
                job = submit_job(session, self.settings, claim, new)
                answer = job_response(session, job)
                preview = JobPreview.of(job)
        lost_race = job.id != job_id
        if not lost_race:
            self.serving.prepare_preview(preview)
        return _accepted(answer, replayed=lost_race)


def submit_job(
    session: Session, settings: Settings, claim: IdempotencyClaim | None, new: NewJob
) -> tables.Job:
    """Create a job, or return the job of an identical request.

    The owner is locked, so concurrent requests can't exceed a quota or create two jobs for one key.

    Raises:
        ByteQuota: the quota is exceeded.
        IdempotencyKeyReused, IdempotentJobGone: the idempotency key can't be used.
    """
    owners.lock(session, new.owner)
    if claim is not None:
        earlier = idempotency.find(session, new.owner, claim)
        if earlier is not None:
            return earlier
        idempotency.remember(session, new.owner, claim, new.id)
    delta_format = new.config.get("delta_format", "full")
    reserved = quotas.expected_model_bytes(session, new.config["backbone"], delta_format)
    quotas.check_quota(session, new.owner, settings, more_bytes=new.image_bytes + reserved)
    created = lifecycle.create(session, new, reserved_bytes=reserved)
    audit.record("job.create", created.id)
    return created


SubmissionDep = Annotated[JobSubmission, from_state("submission")]


def _accepted(job: Job, *, replayed: bool) -> Response:
    response = _json(job, 202)
    response.headers["Location"] = f"/jobs/{job.id}"
    response.headers["Retry-After"] = str(POLL_SECONDS)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _json(body: BaseModel, status: int) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")


def parse_config(text: str | None) -> AdaptConfig:
    """Return the settings that a request has.

    Raises:
        InvalidRequest: the text is not JSON, or has an unknown field or a wrong type.
    """
    parsed = json_or_invalid(text, "/config") if text and text.strip() else {}
    if not isinstance(parsed, dict):
        raise InvalidRequest("config is not a JSON object. Send an object of settings.", at="/config")
    try:
        return AdaptConfig.model_validate(parsed)
    except ValidationError as error:
        raise invalid_model(error, "/config") from error


def _config_warnings(config: AdaptConfig, validated: ValidatedUpload) -> list[dict[str, Any]]:
    warnings = []
    known = {same_class(count["name"]) for count in validated.classes}
    unused = [name for name in config.prompts if same_class(name) not in known]
    if unused:
        warnings.append(
            {
                "code": "prompts_unused",
                "detail": f"config.prompts has classes without images: {', '.join(unused[:5])}. Check "
                "their spelling.",
            }
        )
    return warnings


def _checked_webhook(url: str | None, settings: Settings) -> str | None:
    url = (url or "").strip()
    if not url:
        return None
    try:
        parse(url, allow_private=settings.webhook_allow_private)
    except (InvalidDestination, NotPublic) as error:
        items = [{"pointer": "/webhook", "code": error.code, "detail": error.detail}]
        raise InvalidRequest(error.detail, items, code=error.code) from error
    return url


def fingerprint(
    upload: ValidatedUpload, config: AdaptConfig, *, name: str | None, on_bad_image: str, webhook: str | None
) -> str:
    """Return a SHA-256 of the resolved settings and of every image with its label.

    It does not depend on the body's bytes, because every retry has another multipart boundary. Nor does it
    depend on the images' file names and packing.
    """
    content = {
        "name": name,
        "on_bad_image": on_bad_image,
        "webhook": webhook,
        "config": config.model_dump(),
        "images": [
            [image.split, image.class_name, image.sha256, *([True] if image.label_confirmed else [])]
            for image in upload.images
        ],
    }
    # Sorted, because the order of the keys in `config` must not matter.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
