"""Import of models that were trained elsewhere: form, check and storage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import File, Response, UploadFile
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from api import quotas
from api.archives.members import ArchiveError, ArchiveLimits
from api.archives.read import extract
from api.deps import Services, from_state
from api.http.forms import JsonText, Text
from api.http.problems import InvalidRequest, invalid_model
from api.models.archive import WANTED, ArchiveInfo, inspect_folder, read_weights
from api.models.responses import to_model
from api.serving.service import Serving
from clipcite.types.base import MAX_CLASSES, RawName
from clipcite.types.class_names import same_class
from clipcite.types.models import Model
from core.admission import Take
from core.clip.config import AdaptConfig, resolve_config
from core.clip.errors import InvalidClassNames, InvalidConfig, UnknownBackbone
from core.clip.models.backbone import load_backbone
from core.clip.prompts import clean_class_name
from core.clip.weights.files import save_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest, file_sha256
from core.scratch import scratch_folder
from core.settings import Settings
from core.store.accounts import audit, owners
from core.store.db.ids import new_id
from core.store.db.session import database_now
from core.store.registry import models
from core.store.registry.references import clean_name
from core.store.storage import deletions, installation

MAX_ENTRIES = 1_000
CONFIG_FIELDS = ("backbone", "alpha", "templates", "prompts", "delta_format")
"""Settings of a model that was not trained here."""
CLASSES: TypeAdapter[Any] = TypeAdapter(
    Annotated[list[RawName], Field(fail_fast=True, max_length=MAX_CLASSES)]
)


class ImportForm(BaseModel):
    """Form of POST /models."""

    archive: Annotated[
        UploadFile,
        File(
            description="A .zip with an open_clip folder (open_clip_config.json and "
            "open_clip_model.safetensors) or a delta, both as exported by GET /models/{id}/export."
        ),
    ]
    backbone: Text | None = Field(
        None, description="Backbone of the model, by its name on this service. Default: the archive's."
    )
    name: Text | None = Field(
        None, description="Name of the model, which becomes the next version of that name."
    )
    classes: JsonText | None = Field(
        None,
        description="Trained classes as a JSON list. Default: the archive's.",
        examples=['["red fox", "badger"]'],
    )
    alpha: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Default mixing weight of the model. Default: the archive's, or 1."
    )
    delta_format: Literal["full", "4bit"] = Field(
        "full",
        description="Storage format for the weights of an open_clip folder. A delta keeps its format.",
    )


class ModelImport(Services):
    """Service that creates models from archives."""

    def run(self, form: ImportForm, owner: str, response: Response) -> Model:
        """Store the archive's model. Set its address in the headers of `response`.

        Raises:
            ArchiveError: the archive can't be used.
            ExpectedError: a field or the weights are invalid, a quota is exceeded, or a store failed.
        """
        name = clean_name(form.name)
        installation.check(self.database, self.blobs)
        with self.scratch.hold(owner) as take, scratch_folder(self.scratch.root) as scratch:
            folder = scratch / "model"
            folder.mkdir()
            _unpack(form.archive, folder, self.settings, take)
            info = inspect_folder(folder)
            config = _resolved(info, self.serving, form)
            names = _class_names(info, form)
            backbone = load_backbone(config.backbone, cache=self.settings.cache, image_size=info.image_size)
            weights = read_weights(folder, info, backbone, config.delta_format, classes=len(names))
            manifest = save_weights(
                scratch,
                weights,
                backbone=backbone,
                class_names=names,
                config={field: config.model_dump()[field] for field in CONFIG_FIELDS},
            )
            del backbone, weights  # free memory before the files are stored
            imported = self._publish(scratch, name or clean_name(info.name), manifest, owner)
        response.headers["Location"] = f"/models/{imported.id}"
        return imported

    def _publish(self, folder: Path, name: str | None, manifest: Manifest, owner: str) -> Model:
        """Store the files under a new id, then the row, as workers do.

        The owner is locked, so concurrent requests can't exceed a quota.
        """
        model_id = new_id("mdl")
        prefix = models.blobs_of(model_id)
        with deletions.unless_kept(self.database, self.blobs, prefix):
            for file in (folder / WEIGHTS, folder / MANIFEST):
                key = f"{prefix}/{file.name}"
                self.blobs.put(key, file)
                self.blobs.verify(key, bytes=file.stat().st_size, sha256=file_sha256(file))
            with self.database.write() as session:
                owners.lock(session, owner)
                quotas.check_quota(session, owner, self.settings, more_bytes=manifest.bytes)
                row = models.add_model(
                    session,
                    model_id,
                    name,
                    manifest,
                    owner=owner,
                    job_id=None,
                    metrics=None,
                    promoted=True,
                    at=database_now(session),
                    created_by=audit.actor().key_id,
                )
                audit.record("model.import", row.id)
                return to_model(row)


ImporterDep = Annotated[ModelImport, from_state("importer")]


def _unpack(archive: UploadFile, folder: Path, settings: Settings, take: Take) -> None:
    max_bytes = settings.max_request_bytes  # weights hardly compress
    limits = ArchiveLimits(max_bytes=max_bytes, max_entries=MAX_ENTRIES)
    try:
        extract(archive.file, folder, WANTED, limits, take)
    except ArchiveError as error:
        if error.code == "archive_too_large":
            detail = f"The archive unpacks to more than {max_bytes:,} bytes or {MAX_ENTRIES:,} files."
            raise ArchiveError(error.code, f"{detail} Pack the model's files only.", 413) from error
        raise


def _resolved(info: ArchiveInfo, serving: Serving, form: ImportForm) -> AdaptConfig:
    """Return the settings: from the form, else from the archive, else from the backbone's recipe."""
    backbone = form.backbone or info.backbone or serving.default_backbone
    if not serving.has_backbone(backbone):
        raise UnknownBackbone(
            f"This service has no backbone {backbone!r}. Send its name on this service in the field "
            "`backbone`. The operator adds backbones to CLIPCITE_BACKBONES."
        )
    fields: dict[str, Any] = {"image_size": info.image_size, "delta_format": form.delta_format}
    fields["alpha"] = form.alpha if form.alpha is not None else 1.0 if info.alpha is None else info.alpha
    if info.templates is not None:
        fields["templates"] = info.templates
    fields["prompts"] = info.prompts
    try:
        return resolve_config(backbone=backbone, **fields)
    except InvalidConfig as error:
        raise InvalidRequest(error.detail, code=error.code, at=f"/{error.field}") from error


def _class_names(info: ArchiveInfo, form: ImportForm) -> tuple[str, ...]:
    """Clean the class names. Raise InvalidRequest if one is invalid or repeated."""
    classes: Sequence[str] = info.classes
    if form.classes is not None:
        try:
            classes = CLASSES.validate_json(form.classes)
        except ValidationError as error:
            raise invalid_model(error, "/classes") from error
    few = len(classes) <= MAX_CLASSES
    try:
        names = tuple(clean_class_name(name) for name in classes) if few else ()
    except InvalidClassNames as error:
        raise InvalidRequest(error.detail, code=error.code, at="/classes") from error
    if not few or len({same_class(name) for name in names}) != len(names):
        detail = f"classes has more than {MAX_CLASSES:,} names, or a name twice. Send each name once."
        raise InvalidRequest(detail, at="/classes")
    return names
