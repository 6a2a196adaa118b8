"""Operations of the /models routes that read, rename or delete."""

from collections.abc import Sequence

from clipcite.wire.models import Model, ModelPage, ModelPatch, ModelQuery
from core.serving.service import Serving
from core.store.accounts import audit
from core.store.db import tables
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.registry import models
from core.store.registry.models import Filters
from core.store.registry.references import clean_name
from core.store.storage import deletions
from core.store.storage.blobs import Blobs


def to_model(row: tables.Model, aliases: Sequence[str] = ()) -> Model:
    columns = {name: getattr(row, name) for name in Model.model_fields if hasattr(row, name)}
    return Model.model_validate({**columns, "aliases": aliases, "trained_classes": row.classes})


def list_models(database: Database, owner: str, query: ModelQuery) -> ModelPage:
    with database.read() as session:
        page, more = models.list_page(
            session,
            owner=owner,
            limit=query.limit,
            after=query.after,
            filters=Filters(**query.model_dump(exclude={"limit", "after"})),
        )
        aliases = models.aliases_of(session, page)
    data = [to_model(model, aliases.get(model.id, ())) for model in page]
    return ModelPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


def get_model(database: Database, owner: str, reference: str) -> Model:
    with database.read() as session:
        model = models.resolve(session, reference, owner=owner)
        return to_model(model, models.pointing(session, model))


def rename_model(database: Database, owner: str, reference: str, patch: ModelPatch) -> Model:
    name = clean_name(patch.name)
    with database.write() as session:
        model = models.rename(session, reference, name, owner=owner)
        audit.record(session, "model.rename", model.id)
        return to_model(model, models.pointing(session, model))


def delete_model(
    database: Database, blobs: Blobs, serving: Serving, owner: str, reference: str, *, force: bool
) -> None:
    with database.write() as session:
        model = models.delete(session, reference, owner=owner, force=force)
        audit.record(session, "model.delete", model.id)
    try:
        deletions.finish(database, blobs, models.blobs_of(model.id))
    finally:
        serving.forget(model.id)  # last, so that no request loads the model afterwards
