"""Rows of adapted models. Weights are blobs.

An owner's models with the same name are versions 1, 2, 3, … of it. A model that gets a name gets the next
version. The name alone refers to the highest version that is promoted.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clipcite.types.problems import ProblemAction
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest
from core.store.accounts import owners
from core.store.db.pagination import page
from core.store.db.tables import Alias, Job, Model, ModelName
from core.store.db.text import sanitize_text
from core.store.errors import Conflict, ModelNotFound, NotFound
from core.store.registry import references
from core.store.storage import deletions

ENOUGH_IMAGES = 30
"""With as many images, or with as many as the job had, an evaluation replaces the verdict of the job."""
WORSE = ("worse", "probably_worse")
"""Verdicts with which a model is not promoted."""
NOT_PROMOTED = {
    "worse": "It is worse than the pre-trained model.",
    "probably_worse": "It is probably worse than the pre-trained model.",
    "replaced": "An older version was promoted.",
}


def add_model(
    session: Session,
    model_id: str,
    name: str | None,
    manifest: Manifest,
    *,
    owner: str,
    job_id: str | None,
    metrics: dict[str, Any] | None,
    promoted: bool | None,
    at: datetime,
    created_by: str,
) -> Model:
    """Insert the row of a model.

    Its files must be stored below `blobs_of`, which must have been announced before (`deletions`). Only
    `lifecycle.publish` and an import may call this function. `publish` also sets the job's
    `model_id`, in the same transaction.
    """
    row = Model(
        id=model_id,
        name=name,
        version=None if name is None else _next_version(session, owner, name),
        owner=owner,
        job_id=job_id,
        backbone=manifest.backbone,
        image_size=manifest.image_size,
        classes=list(manifest.class_names),
        alpha=manifest.config["alpha"],
        templates=manifest.config["templates"],
        prompts=manifest.config["prompts"],
        weights_key=f"{blobs_of(model_id)}/{WEIGHTS}",
        manifest_key=f"{blobs_of(model_id)}/{MANIFEST}",
        sha256=manifest.sha256,
        bytes=manifest.bytes,
        delta_format=manifest.delta_format,
        metrics=metrics,
        promoted=promoted,
        created_at=at,
        created_by=created_by,
    )
    session.add(row)
    session.flush()
    deletions.keep(session, blobs_of(model_id))
    return row


def may_be_promoted(metrics: dict[str, Any] | None) -> bool:
    """Return whether a trained model with these metrics is promoted, so that its name refers to it.

    A model with a verdict of WORSE is not. Then the name still refers to the previous version.
    """
    return (metrics or {}).get("verdict") not in WORSE


def set_metrics(session: Session, model_id: str, metrics: dict[str, Any] | None) -> None:
    """Set the metrics of a model, unless it was deleted. A person may have promoted or evaluated it."""
    before = session.scalar(select(Model.metrics).where(Model.id == model_id).with_for_update())
    if before and (evaluation := before.get("evaluation")):
        metrics = {**(metrics or {"verdict": "not_evaluated"}), "evaluation": evaluation}
    values = {"metrics": metrics, "promoted": func.coalesce(Model.promoted, may_be_promoted(metrics))}
    session.execute(update(Model).where(Model.id == model_id).values(values))


def keep_evaluation(
    session: Session, model_id: str, key: str, metrics: dict[str, Any], *, owner: str
) -> str | None:
    """Keep an evaluation with its model. Return the key of the one before, whose blob the caller must delete.

    Args:
        key: blob of the evaluation, in the model's folder. Its deletion was announced before (`deletions`).
        metrics: its summary.

    Raises:
        ModelNotFound: the model was deleted.
    """
    owners.lock(session, owner)
    model = get(session, model_id, owner=owner)
    before = evaluation_key(model)
    deletions.keep(session, key)
    if before is not None:
        deletions.mark_for_deletion(session, before)
    kept = {"key": key, "metrics": metrics}
    model.metrics = {**(model.metrics or {"verdict": "not_evaluated"}), "evaluation": kept}
    return before


def evaluation_key(model: Model) -> str | None:
    """Return the blob key of the last evaluation on images that a user sent. None without one."""
    key: str | None = ((model.metrics or {}).get("evaluation") or {}).get("key")
    return key


def measured(model: Model) -> dict[str, Any] | None:
    """Return the metrics to show: those of the last evaluation, unless its images are too few to replace
    those of the job."""
    own = model.metrics
    if own is None or not (kept := own.get("evaluation")):
        return own
    new: dict[str, Any] = kept["metrics"]
    return new if is_enough(model, new["measured_on"]["images"]) else own


def is_enough(model: Model, images: int) -> bool:
    """Return whether an evaluation with so many images replaces the verdict of the model's job."""
    own: int = ((model.metrics or {}).get("measured_on") or {}).get("images", 0)
    return images >= min(own, ENOUGH_IMAGES)


def is_promoted(session: Session, model_id: str) -> bool | None:
    """Return whether the name may refer to the model. None before its verdict, or if it was deleted."""
    return session.scalar(select(Model.promoted).where(Model.id == model_id))


def promote(session: Session, reference: str, *, owner: str) -> Model:
    """Make the model's name refer to it, and no longer to newer versions.

    Raises:
        ModelNotFound: the owner has no such model.
        Conflict: the model has no name.
    """
    owners.lock(session, owner)
    model = resolve(session, reference, owner=owner)
    if model.name is None:
        raise Conflict(
            "model_without_name",
            f"{model.id} has no name that could refer to it. Name it first with ",
            ProblemAction.of("PATCH /models/{model_id}", model_id=model.id),
            ".",
        )
    same_name = (Model.owner == owner, Model.name == model.name)
    newer = update(Model).where(*same_name, Model.version > model.version, Model.promoted.is_(True))
    session.execute(newer.values(promoted=False))
    model.promoted = True
    session.flush()
    return model


def not_promoted(model: Model) -> dict[str, str] | None:
    """Return code and reason if the name may not refer to the model."""
    if model.promoted is not False:
        return None
    verdict = (model.metrics or {}).get("verdict")
    code = verdict if verdict in WORSE else "replaced"
    return {"code": code, "detail": NOT_PROMOTED[code]}


_BY_ID = select(Model).where(Model.id == bindparam("id"), Model.owner == bindparam("owner"))
"""Prepared statement, because every classification executes it."""


def get(session: Session, model_id: str, *, owner: str) -> Model:
    """Return a model by its id. Raise ModelNotFound if the owner has no such model."""
    model = session.scalars(_BY_ID, {"id": sanitize_text(model_id), "owner": owner}).one_or_none()
    if model is None:
        raise ModelNotFound(model_id)
    return model


def resolve(session: Session, reference: str, *, owner: str) -> Model:
    """Return the model to which an id, `name`, `name@version` or `name@alias` currently refers.

    A name refers to its highest promoted version, or else to the highest one that has no verdict yet.

    Raises:
        ModelNotFound: the owner has no such model.
        NotFound: the name has versions, but none is promoted.
    """
    parsed = references.parse(reference)
    if parsed is None:
        raise ModelNotFound(reference)
    if parsed.id is not None:
        return get(session, parsed.id, owner=owner)
    rows = named = select(Model).where(Model.owner == owner, Model.name == parsed.name)
    if parsed.version is not None:
        rows = rows.where(Model.version == parsed.version)
    elif parsed.alias is not None:
        rows = rows.join(Alias, Alias.model_id == Model.id).where(
            Alias.owner == owner, Alias.name == parsed.name, Alias.alias == parsed.alias
        )
    else:
        rows = rows.where(Model.promoted.is_distinct_from(False)).order_by(Model.promoted.is_(None))
    model = session.scalars(rows.order_by(Model.version.desc()).limit(1)).one_or_none()
    if model is not None:
        return model
    newest = session.scalar(named.order_by(Model.version.desc()).limit(1))
    if newest is None or parsed.version is not None or parsed.alias is not None:
        raise ModelNotFound(reference)
    version = f"{parsed.name}@{newest.version}"
    raise NotFound(
        "model_not_promoted",
        f"No version of {parsed.name!r} is in use: each is worse than the pre-trained model, or was replaced "
        f"by an older one. Use `stock`, or name a version, such as {version}. To use {version} all the same, "
        "promote it: ",
        ProblemAction.of("PATCH /models/{model_id}", model_id=newest.id, promoted="true"),
        ".",
    )


def of_jobs(session: Session, jobs: Iterable[Job]) -> dict[str, Model]:
    """Return the models by the id of their job. Jobs without a model are left out."""
    job_of = {job.model_id: job.id for job in jobs if job.model_id is not None}
    return {job_of[model.id]: model for model in session.scalars(select(Model).where(Model.id.in_(job_of)))}


def exists(session: Session, model_id: str) -> bool:
    """Return whether any owner has this model."""
    return session.get(Model, model_id) is not None


def list_page(
    session: Session,
    *,
    owner: str,
    limit: int,
    after: str | None = None,
    name: str | None = None,
    backbone: str | None = None,
    job_id: str | None = None,
    class_name: str | None = None,
) -> tuple[list[Model], bool]:
    """Return a page of models, newest first, and whether there are more.

    Args:
        name: name of the models. None, here and below: any.
        class_name: trained class, in exact spelling.

    Raises:
        InvalidCursor: `after` is not a cursor.
    """
    rows = select(Model)
    if name is not None:
        rows = rows.where(Model.name == references.normal(name))
    if backbone is not None:
        rows = rows.where(Model.backbone == sanitize_text(backbone))
    if job_id is not None:
        rows = rows.where(Model.job_id == sanitize_text(job_id))
    if class_name is not None:
        postgres = session.get_bind().dialect.name == "postgresql"
        elements = func.json_array_elements_text if postgres else func.json_each
        trained = elements(Model.classes).table_valued("value")
        wanted = trained.c.value == references.normal(class_name)
        rows = rows.where(select(1).select_from(trained).where(wanted).exists())
    return page(session, rows, Model, owner=owner, limit=limit, after=after)


def aliases_of(session: Session, models: Iterable[Model]) -> dict[str, list[str]]:
    """Return the aliases by model id, in alphabetical order. Models without aliases are left out."""
    ids = [model.id for model in models]
    aliases: dict[str, list[str]] = {}
    rows = select(Alias.model_id, Alias.alias).where(Alias.model_id.in_(ids)).order_by(Alias.alias)
    for model_id, alias in session.execute(rows):
        aliases.setdefault(model_id, []).append(alias)
    return aliases


def pointing(session: Session, model: Model) -> list[str]:
    """Return the aliases that point to the model."""
    return aliases_of(session, [model]).get(model.id, [])


def rename(session: Session, reference: str, name: str | None, *, owner: str) -> Model:
    """Make the model the next version of `name`, or remove its name. If it has this name, change nothing.

    Args:
        name: the cleaned name, or None.

    Raises:
        ModelNotFound: the owner has no such model.
        Conflict: an alias points to the model. Aliases belong to a name.
    """
    owners.lock(session, owner)
    model = resolve(session, reference, owner=owner)
    if model.name == name:
        return model
    if aliases := pointing(session, model):
        raise Conflict(
            "model_has_aliases",
            f"{_pointing_text(model, aliases)} to the model, and an alias belongs to its name. Promote "
            "another model first with ",
            ProblemAction.of("PUT /models/{name}/aliases/{alias}", **_only(model, aliases)),
            ", or delete the alias with ",
            ProblemAction.of("DELETE /models/{name}/aliases/{alias}", **_only(model, aliases)),
            ".",
        )
    version = None if name is None else _next_version(session, owner, name)
    model.name, model.version = name, version
    session.flush()
    return model


def delete(session: Session, reference: str, *, owner: str, force: bool = False) -> Model:
    """Delete the model and return its row. The caller must delete its `blobs_of` after the commit.

    Args:
        force: delete the model's aliases too.

    Raises:
        ModelNotFound: the owner has no such model.
        Conflict: an alias points to the model.
    """
    owners.lock(session, owner)  # excludes concurrent deletions and promotions
    model = resolve(session, reference, owner=owner)
    aliases = pointing(session, model)
    if aliases and not force:
        raise Conflict(
            "model_has_aliases",
            f"{_pointing_text(model, aliases)} to the model. Promote another model first with ",
            ProblemAction.of("PUT /models/{name}/aliases/{alias}", **_only(model, aliases)),
            ", or delete it with ",
            ProblemAction.of("DELETE /models/{model_id}", model_id=model.id, force="true"),
            ", which deletes the alias too.",
        )
    session.execute(delete_from(Alias).where(Alias.model_id == model.id))
    session.execute(delete_from(Model).where(Model.id == model.id))
    session.expunge(model)
    deletions.mark_for_deletion(session, blobs_of(model.id))
    return model


def blobs_of(model_id: str) -> str:
    """Return the folder of the model's files."""
    return f"models/{model_id}"


def _next_version(session: Session, owner: str, name: str) -> int:
    """Return the next unused version of the name. Concurrent callers wait until this transaction ends."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    increment = (
        insert(ModelName)
        .values(owner=owner, name=name, last_version=1)
        .on_conflict_do_update(
            index_elements=["owner", "name"], set_={"last_version": ModelName.last_version + 1}
        )
        .returning(ModelName.last_version)
    )
    return session.execute(increment).scalar_one()


def _only(model: Model, aliases: list[str]) -> dict[str, str]:
    """Return the parameters of requests on the only alias, or without it if there are several."""
    name = {"name": str(model.name)}
    return {**name, "alias": aliases[0]} if len(aliases) == 1 else name


def _pointing_text(model: Model, aliases: list[str]) -> str:
    """Return `shoes@prod points`, or `shoes@prod and shoes@staging point`."""
    references = [f"{model.name}@{alias}" for alias in aliases]
    return f"{' and '.join(references)} {'points' if len(references) == 1 else 'point'}"
