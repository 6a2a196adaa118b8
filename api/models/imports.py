"""Import of models that were adapted elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import File, Form, Request, Response, UploadFile
from pydantic import Field, TypeAdapter, ValidationError

from api.archives.errors import ArchiveError
from api.archives.members import ArchiveLimits
from api.archives.read import extract
from api.class_names import RawName
from api.deps import BlobsDep, DatabaseDep, SettingsDep
from api.forms import JsonText, Text
from api.jobs.schemas import MAX_CLASSES, Prompts, Sentences
from api.jobs.upload import Upload
from api.models.exports import one_at_a_time
from api.models.schemas import Model
from api.problems import InvalidRequest, check_json_values, invalid_model
from core.clip.config import AdaptConfig, DeltaFormat, resolve_config
from core.clip.errors import InvalidClassNames, InvalidConfig, UnknownBackbone
from core.clip.export.importer import WANTED, ArchiveInfo, inspect_folder, read_weights
from core.clip.models.backbone import load_backbone
from core.clip.prompts import clean_class_name, same_class
from core.clip.weights.files import save_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, file_sha256
from core.scratch import scratch_folder
from core.settings import Settings
from core.store import submission
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable
from core.store.registry import models
from core.store.registry.models import NewModel
from core.store.registry.references import clean_name
from core.store.storage.blobs import Blobs

MAX_ENTRIES = 1_000
SAID = ("backbone", "alpha", "templates", "prompts", "delta_format")
"""Of the settings: what holds for a model that was not trained here."""
SHAPES: Mapping[str, TypeAdapter[Any]] = {
    "classes": TypeAdapter(Annotated[list[RawName], Field(fail_fast=True, max_length=MAX_CLASSES)]),
    "templates": TypeAdapter(Sentences),
    "prompts": TypeAdapter(Prompts),
}
FIELDS = ("archive", "backbone", "name", "classes", "alpha", "templates", "prompts", "delta_format")


@dataclass(frozen=True)
class ImportForm:
    """The form of POST /models, as it was sent."""

    archive: Upload
    backbone: str | None
    name: str | None
    classes: str | None
    alpha: float | None
    templates: str | None
    prompts: str | None
    delta_format: DeltaFormat


async def import_form(
    *,
    request: Request,
    archive: Annotated[
        UploadFile,
        File(
            description="A .zip of an open_clip folder (open_clip_config.json and "
            "open_clip_model.safetensors) or of a delta, both as GET /models/{id}/export gives them."
        ),
    ],
    backbone: Annotated[
        Text | None,
        Form(
            description="What it was adapted from, as this service calls it; default: what the archive says."
        ),
    ] = None,
    name: Annotated[
        Text | None, Form(description="A name for the model: it is the next version of it.")
    ] = None,
    classes: Annotated[
        JsonText | None,
        Form(
            description="The class names that it was trained on, a JSON list; default: what it says itself.",
            examples=['["red fox", "badger"]'],
        ),
    ] = None,
    alpha: Annotated[
        float | None, Form(ge=0, le=1, description="Its default α; without a word from the archive 1.")
    ] = None,
    templates: Annotated[JsonText | None, Form(description="A JSON list, as in POST /adapt.")] = None,
    prompts: Annotated[JsonText | None, Form(description="A JSON object, as in POST /adapt.")] = None,
    delta_format: Annotated[
        Literal["full", "4bit", "1bit"],
        Form(description="How the change of an open_clip folder is kept; a delta is kept as it is."),
    ] = "full",
) -> ImportForm:
    """Raises InvalidRequest: a field that there is not, or that is there twice."""
    _check_fields(request)
    return ImportForm(cast(Upload, archive), backbone, name, classes, alpha, templates, prompts, delta_format)


@dataclass(frozen=True)
class ModelImport:
    """Makes models of archives."""

    settings: Settings
    database: Database
    blobs: Blobs

    def run(self, form: ImportForm, owner: str, response: Response) -> Model:
        """Store the model of the form's archive; its address goes into the headers of `response`.

        Raises:
            ArchiveError: the archive can't be used.
            ClipCiteError: a field or the weights are refused, or a store failed.
        """
        given_name = clean_name(form.name)
        with scratch_folder(self.settings.scratch()) as scratch:
            folder = scratch / "model"
            folder.mkdir()
            _unpack(form.archive, folder, self.settings)
            found = inspect_folder(folder)
            config = _resolved(found, self.settings, form)
            names = _class_names(found.classes if form.classes is None else _json(form.classes, "classes"))
            with one_at_a_time():
                known = load_backbone(config.backbone, cache=self.settings.cache, image_size=found.image_size)
                kept = read_weights(folder, found, known, config.delta_format, classes=len(names))
                manifest = save_weights(
                    scratch,
                    kept,
                    backbone=known,
                    class_names=names,
                    config={field: config.to_dict()[field] for field in SAID},
                )
                del known, kept  # the next one's turn, with their memory
            model = NewModel(
                id=(model_id := new_id("mdl")),
                name=given_name or clean_name(found.name),
                backbone=config.backbone,
                image_size=manifest.image_size,
                classes=list(names),
                alpha=config.alpha,
                templates=list(config.templates),
                prompts={of: list(sentences) for of, sentences in config.prompts.items()},
                weights_key=f"{models.blobs_of(model_id)}/{WEIGHTS}",
                manifest_key=f"{models.blobs_of(model_id)}/{MANIFEST}",
                sha256=manifest.sha256,
                bytes=manifest.bytes,
                delta_format=manifest.delta_format,
            )
            answer = self._publish(scratch, model, owner)
        response.headers["Location"] = f"/models/{model_id}"
        return answer

    def _publish(self, folder: Path, model: NewModel, owner: str) -> Model:
        """The files under a name that was never used, then the row: as a worker does it."""
        committing = False
        try:
            for key in (model.weights_key, model.manifest_key):
                file = folder / key.rpartition("/")[2]
                self.blobs.put(key, file)
                self.blobs.verify(key, bytes=file.stat().st_size, sha256=file_sha256(file))
            with self.database.write() as session:
                answer = Model.of(submission.admit_model(session, self.settings, model, owner=owner))
                committing = True
        except DatabaseUnavailable:
            # Perhaps it was committed all the same; the sweep removes what nobody owns.
            if not committing:
                self.blobs.delete_prefix(models.blobs_of(model.id))
            raise
        except BaseException:
            self.blobs.delete_prefix(models.blobs_of(model.id))
            raise
        return answer


async def model_import(settings: SettingsDep, database: DatabaseDep, blobs: BlobsDep) -> ModelImport:
    return ModelImport(settings, database, blobs)


def _unpack(archive: Upload, folder: Path, settings: Settings) -> None:
    most = settings.max_request_bytes  # nothing in it shrinks much
    limits = ArchiveLimits(max_bytes=most, max_entries=MAX_ENTRIES)
    try:
        extract(archive.file, folder, WANTED, limits)
    except ArchiveError as error:
        if error.code == "archive_too_large":
            detail = (
                f"The archive unpacks to more than {most:,} bytes, or holds more than {MAX_ENTRIES:,} files."
            )
            raise ArchiveError(error.code, f"{detail} Pack the model's files only.", 413) from error
        raise


def _resolved(found: ArchiveInfo, settings: Settings, form: ImportForm) -> AdaptConfig:
    """What the form says, else the archive, else the backbone's recipe.

    Raises:
        UnknownBackbone: not on the operator's list.
        InvalidRequest: one of the values is out of its range.
    """
    named = form.backbone or found.backbone or settings.backbone
    known = settings.known_backbone(named)
    if known is None:
        raise UnknownBackbone(
            f"There is no backbone {named!r} here. Say in the field `backbone` what this service calls it; "
            "the operator lists backbones in CLIPCITE_BACKBONES, or folders below CLIPCITE_BACKBONE_FOLDER."
        )
    given: dict[str, Any] = {"image_size": found.image_size, "delta_format": form.delta_format}
    given["alpha"] = form.alpha if form.alpha is not None else 1.0 if found.alpha is None else found.alpha
    own = found.templates if form.templates is None else _json(form.templates, "templates")
    if own is not None:
        given["templates"] = own
    given["prompts"] = found.prompts if form.prompts is None else _json(form.prompts, "prompts")
    try:
        return resolve_config(backbone=known, **given)
    except InvalidConfig as error:
        item = {"pointer": f"/{error.field}", "detail": error.detail}
        raise InvalidRequest(error.detail, [item], code=error.code) from error


def _class_names(given: Sequence[str]) -> tuple[str, ...]:
    """Raises InvalidRequest: a name is not clean, or there twice."""
    try:
        names = tuple(clean_class_name(name) for name in given)
    except InvalidClassNames as error:
        raise InvalidRequest(
            error.detail, [{"pointer": "/classes", "detail": error.detail}], code=error.code
        ) from error
    if len(names) > MAX_CLASSES or len({same_class(name) for name in names}) != len(names):
        detail = f"classes must be at most {MAX_CLASSES:,} names, each there once."
        raise InvalidRequest(detail, [{"pointer": "/classes", "detail": detail}])
    return names


def _json(text: str, field: str) -> Any:
    """A form field that holds JSON of its type. Raises InvalidRequest."""
    check_json_values(text, f"/{field}")
    try:
        return SHAPES[field].validate_json(text)
    except ValidationError as error:
        raise invalid_model(error, f"/{field}") from error


def _check_fields(request: Request) -> None:
    form = request._form  # parsed by FastAPI for the parameters above
    given = [name for name, _ in (form.multi_items() if form else ())]
    odd = sorted({name for name in given if name not in FIELDS or given.count(name) > 1})
    if odd:
        raise InvalidRequest(
            f"The field {odd[0][:60]!r} is unknown or given more than once; the fields are "
            f"{', '.join(FIELDS)}.",
            [{"pointer": f"/{name[:60]}", "detail": "Unknown, or given more than once."} for name in odd],
        )
