"""Routes of /piles."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel

from api import quotas
from api.classify.routes import run_admitted
from api.deps import After, CurrentOwner, DatabaseDep, Limit, Services, ServicesDep
from api.http.forms import form_body, form_of, json_body
from api.http.problems import InvalidRequest, parsed_json, responses
from api.jobs.images import JPEG, MAX_POSITION, PRIVATE
from api.piles.features import PileFeatureStore
from api.piles.images import PileImagesForm, add_images
from api.piles.sorting import sort
from api.serving.service import Serving, Subject, look_up
from api.threads import REQUESTS, UPLOADS
from clipcite.types.base import MAX_CLASS_NAMES
from clipcite.types.class_names import same_class
from clipcite.types.classify import ClassNames, Options
from clipcite.types.piles import (
    MAX_ASKED,
    MAX_GROUPS,
    AddedImages,
    AnswerIn,
    AnswersJson,
    MatchJson,
    Pile,
    PileCounts,
    PileImage,
    PileImages,
    PileIn,
    PileLabel,
    PileMatch,
    PileMatches,
    PilePage,
    PilePatch,
    PileSort,
)
from clipcite.types.tables import as_csv
from core.admission import Take
from core.answers import Label
from core.answers import labels as labels_of
from core.clip.errors import InvalidClassNames
from core.clip.prompts import clean_class_name
from core.errors import ExpectedError
from core.settings import Settings
from core.store import piles
from core.store.accounts import audit, owners
from core.store.db import tables
from core.store.db.pagination import cursor_of
from core.store.db.session import Database, database_now
from core.store.db.text import sanitize_text
from core.store.errors import DatabaseUnavailable, NotFound
from core.store.storage import deletions

router = APIRouter(prefix="/piles", tags=["piles"])
POLL_SECONDS = 1
CSV = "text/csv"
SORT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}}},
    202: {"model": PileSort, "description": "Features are being computed. Send the request again."},
}


def _json_of(kind: type[BaseModel]) -> Any:
    """Return a dependency that parses a large JSON body in a thread, so that other requests do not wait."""

    async def read(request: Request) -> BaseModel:
        return await UPLOADS.run(parsed_json, kind, await request.body())

    return Depends(read)


@router.post("", status_code=201, responses=responses(400, 401, 404, 408, 413, 422, 503, 507))
@UPLOADS.runs
def create_pile(services: ServicesDep, owner: CurrentOwner, body: PileIn, response: Response) -> Pile:
    """Make a pile: images that wait for labels, what people say about them, and their sort."""
    names = _checked_names(body.class_names)
    _check_model(services, body.model, owner)
    with services.database.write() as session:
        owners.ensure(session, owner)
        owners.lock(session, owner)
        more = piles.PILE_BYTES + piles.bytes_of_names(names)
        quotas.check_quota(session, owner, services.settings, more_bytes=more)
        at = database_now(session)
        row = piles.create(
            session,
            owner=owner,
            name=(body.name or "").strip() or f"{at:%Y-%m-%d %H:%M}",
            model=body.model,
            class_names=names,
            keeps_images=body.keeps_images,
        )
        audit.record("pile.create", row.id)
        made = pile_of(row, services.settings)
    response.headers["Location"] = f"/piles/{made.id}"
    return made


@router.get("", responses=responses(401, 422, 503))
@REQUESTS.runs
def list_piles(
    services: ServicesDep,
    owner: CurrentOwner,
    name: Annotated[str | None, Query(description="Only piles with this name.")] = None,
    limit: Limit = 20,
    after: After = None,
) -> PilePage:
    """List your piles, newest first."""
    with services.database.read() as session:
        page, more = piles.list_page(session, owner=owner, name=name, limit=limit, after=after)
        data = [pile_of(row, services.settings) for row in page]
    return PilePage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


@router.post("/match", responses=responses(400, 401, 408, 413, 422, 503), openapi_extra=json_body(MatchJson))
@REQUESTS.runs
def match_piles(
    services: ServicesDep, owner: CurrentOwner, body: Annotated[MatchJson, _json_of(MatchJson)]
) -> PileMatches:
    """Find your piles that have any of these files, before an upload. At most ten are returned."""
    with services.database.read() as session:
        found = []
        for row in piles.having(session, body.sha256, owner=owner):
            at = piles.positions_of(session, row.id, body.sha256)
            pile = pile_of(row, services.settings)
            found.append(PileMatch(pile=pile, positions=[at.get(sha256) for sha256 in body.sha256]))
    return PileMatches(data=found)


@router.get(
    "/{pile_id}",
    response_model=Pile,
    responses={
        304: {"description": "The pile has the revision of `If-None-Match`."},
        **responses(401, 404, 503),
    },
)
@REQUESTS.runs
def get_pile(
    services: ServicesDep,
    owner: CurrentOwner,
    pile_id: str,
    response: Response,
    if_none_match: Annotated[str | None, Header(description="`ETag` of an earlier response.")] = None,
) -> Any:
    """Return a pile. Its `ETag` changes with every change, for example with answers of another person."""
    with services.database.read() as session:
        row = piles.get(session, pile_id, owner=owner)
        tag = f'"{row.revision}"'
        if if_none_match is not None and (tag in if_none_match or if_none_match.strip() == "*"):
            return Response(status_code=304, headers={"ETag": tag})
        response.headers["ETag"] = tag
        return pile_of(row, services.settings)


@router.patch("/{pile_id}", responses=responses(400, 401, 404, 408, 413, 422, 503, 507))
@UPLOADS.runs
def change_pile(services: ServicesDep, owner: CurrentOwner, pile_id: str, patch: PilePatch) -> Pile:
    """Change name, model or class names of a pile. Answers stay."""
    changes: dict[str, Any] = {}
    if patch.name is not None and patch.name.strip():
        changes["name"] = sanitize_text(patch.name.strip())
    if patch.model is not None:
        _check_model(services, patch.model, owner)
        changes["model"] = patch.model
    if "class_names" in patch.model_fields_set:
        changes["class_names"] = _checked_names(patch.class_names)
    if not changes:
        raise InvalidRequest("The object changes nothing. Send `name`, `model` or `class_names`.")
    with services.database.write() as session:
        piles.get(session, pile_id, owner=owner)  # before the owner, which may not exist
        owners.lock(session, owner)
        row = piles.get(session, pile_id, owner=owner, lock=True)
        if "class_names" in changes:
            more = piles.bytes_of_names(changes["class_names"]) - piles.bytes_of_names(row.class_names)
            quotas.check_quota(session, owner, services.settings, more_bytes=max(0, more))
            row.bytes += more
        for field, value in changes.items():
            setattr(row, field, value)
        piles.changed(session, row)
        audit.record("pile.change", row.id)
        return pile_of(row, services.settings)


@router.delete("/{pile_id}", status_code=204, responses=responses(401, 404, 503, 507))
@UPLOADS.runs
def delete_pile(services: ServicesDep, owner: CurrentOwner, pile_id: str) -> None:
    """Delete a pile with its images, features and answers. Models that were trained with it are kept."""
    with services.database.write() as session:
        row = piles.get(session, pile_id, owner=owner, lock=True)
        piles.delete(session, row)
        audit.record("pile.delete", pile_id)
    deletions.finish(services.database, services.blobs, piles.blobs_of(pile_id))


@router.post(
    "/{pile_id}/images",
    status_code=201,
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=form_body(PileImagesForm),
)
@UPLOADS.runs
def add_pile_images(
    services: ServicesDep,
    owner: CurrentOwner,
    pile_id: str,
    form: Annotated[PileImagesForm, form_of(PileImagesForm, {"images"})],
) -> AddedImages:
    """Add images to a pile. Files that it has are skipped, so an interrupted upload can be repeated.

    The pile keeps copies whose shorter side has 384 pixels, or only features. Unreadable files are returned
    with their `error`; the others are added.
    """
    added, row = add_images(services, pile_id, form.images, owner)
    return AddedImages(images=added, pile=pile_of(row, services.settings))


@router.get("/{pile_id}/images", responses=responses(401, 404, 503))
@REQUESTS.runs
def list_pile_images(database: DatabaseDep, owner: CurrentOwner, pile_id: str) -> PileImages:
    """List the images of a pile in order of position, with what people said about them."""
    with database.read() as session:
        row = piles.get(session, pile_id, owner=owner)
        images, labels = piles.images(session, row.id), labels_of(piles.answers(session, row.id))
    return PileImages(
        data=[
            PileImage(
                position=image.position,
                file=image.file,
                sha256=image.sha256,
                answer=None if label.answer is None else _label_of(label.answer),
                not_classes=list(label.excluded.values()),
            )
            for image in images
            for label in [labels.get(image.position, Label())]
        ]
    )


@router.get(
    "/{pile_id}/images/{position}/file",
    response_class=Response,
    responses={**JPEG, **responses(401, 404, 422, 503)},
)
@UPLOADS.runs
def get_pile_image(
    services: ServicesDep,
    owner: CurrentOwner,
    pile_id: str,
    position: Annotated[int, Path(ge=0, le=MAX_POSITION)],
) -> Response:
    """Return the reduced copy of an image, as JPEG."""
    with services.database.read() as session:
        row = piles.image(session, piles.get(session, pile_id, owner=owner).id, position)
    if row.blob_key is None:
        raise NotFound("image_not_kept", f"The pile {pile_id!r} keeps no images.")
    return Response(services.blobs.get(row.blob_key), media_type="image/jpeg", headers=PRIVATE)


@router.post(
    "/{pile_id}/answers",
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=json_body(AnswersJson),
)
@UPLOADS.runs
def add_answers(
    services: ServicesDep,
    owner: CurrentOwner,
    pile_id: str,
    body: Annotated[AnswersJson, _json_of(AnswersJson)],
) -> Pile:
    """Say what images are. The last answer about an image counts; earlier ones are kept."""
    with services.database.read() as session:
        row = piles.get(session, pile_id, owner=owner)
    trained = _trained_names(services, row.model, owner)  # not while the rows are locked
    with services.database.write() as session:
        owners.lock(session, owner)
        row = piles.get(session, pile_id, owner=owner, lock=True)
        given = _checked_answers(body.answers, row, trained)
        more = piles.bytes_of_answers(given)
        quotas.check_quota(session, owner, services.settings, more_bytes=more)
        piles.add_answers(session, row, given)
        piles.changed(session, row)
        audit.record("pile.answer", row.id)
        return pile_of(row, services.settings)


@router.get(
    "/{pile_id}/sort",
    response_model=PileSort,
    responses={**SORT_RESPONSES, **responses(401, 404, 409, 422, 503, 507)},
)
async def sort_pile(
    request: Request,
    services: ServicesDep,
    pile_id: str,
    model: Annotated[str | None, Query(max_length=600, description="Default: the pile's model.")] = None,
    alpha: Annotated[float | None, Query(ge=0, le=1, description="Default: the model's.")] = None,
    groups: Annotated[
        int,
        Query(
            ge=0,
            description="Maximum number of groups to return, the most useful first. There are at most "
            f"{MAX_GROUPS}.",
        ),
    ] = 0,
    ask: Annotated[
        int, Query(ge=0, le=MAX_ASKED, description="Number of images to ask about one by one.")
    ] = 0,
    draw: Annotated[
        int,
        Query(
            ge=0,
            le=MAX_ASKED,
            description="To check the sort, `ask` of the response has this many images, all drawn at random. "
            "The parameter `ask` is then ignored.",
        ),
    ] = 0,
    something_else: Annotated[
        bool, Query(description="`false`: only images that a person marked are something else.")
    ] = True,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Sort a pile: each image gets a class or is something else.

    The response also says which images to ask about next, and how much of the sort is right.

    What a person said about an image decides its place. Labels count as training images at once. If the
    features for the model are missing, the response is 202 while they are computed.
    """
    store: PileFeatureStore = request.app.state.pile_features

    def work(serving: Serving, database: Database, owner: str, take: Take) -> PileSort:
        with database.read() as session:
            row = piles.get(session, pile_id, owner=owner)
            unnoted = piles.is_unnoted(session, row)
        if unnoted:
            with suppress(DatabaseUnavailable), database.write() as session:  # a full disk still sorts
                piles.used(session, row)
        reference = model or row.model
        subject = look_up(database, reference, owner=owner)
        with serving.hold(subject, alpha) as held:
            model_key = held.served.key
        with database.read() as session:
            parts = piles.features(session, row.id, model_key)
            answers = piles.answers(session, row.id)
            # Last, so that it has all images of these, even if one was added meanwhile.
            row = piles.get(session, pile_id, owner=owner)
            pile = pile_of(row, services.settings)
        with serving.memory.hold(owner, sum(part.bytes for part in parts)):
            rows, has = store.load(parts, row.images)
        if not has.all():
            store.compute(row, reference, alpha, model_key)
            return PileSort(pile=pile, ready=False, done=int(has.sum()))
        options = Options(class_names=row.class_names, model=reference, alpha=alpha)
        # It holds its own memory: two parts of one request would exceed the owner's share.
        fields = sort(
            serving,
            rows,
            answers,
            options,
            subject,
            owner=owner,
            take=take,
            seed=row.id,
            groups=min(groups, MAX_GROUPS),
            ask=ask,
            draw=draw,
            something_else=something_else,
        )
        return PileSort(pile=pile, ready=True, done=len(rows), **fields)

    found = await run_admitted(request, work)
    status = 200 if found.ready else 202
    headers = {} if found.ready else {"Retry-After": str(POLL_SECONDS)}
    wants_csv = CSV in (part.split(";")[0].strip().lower() for part in accept.split(","))
    if wants_csv and found.ready:
        text = await REQUESTS.run(_as_csv, services.database, request.state.caller.owner, found)
        return Response(text, 200, media_type=CSV)
    body = await REQUESTS.run(found.model_dump_json)
    return Response(body, status, headers, media_type="application/json")


# --- responses and checks ---


def pile_of(row: tables.Pile, settings: Settings) -> Pile:
    """Return the response for a pile."""
    kept = timedelta(days=settings.pile_days)
    return Pile(
        id=row.id,
        name=row.name,
        model=row.model,
        class_names=_names(row),
        keeps_images=row.keeps_images,
        counts=PileCounts(images=row.images, labelled=row.labelled, none=row.none, drawn=row.drawn),
        bytes=row.bytes,
        revision=row.revision,
        created_at=row.created_at,
        used_at=row.used_at,
        created_by=row.created_by,
        deleted_at=row.used_at + kept if settings.pile_days else None,
    )


def _label_of(row: piles.GivenAnswer) -> PileLabel:
    return PileLabel(
        said=row.said, class_name=row.class_name, how=row.how, by=row.created_by, at=row.created_at
    )


def _names(row: tables.Pile) -> list[str]:
    """Return the given names and those that people used, each once."""
    given = [name if isinstance(name, str) else name["name"] for name in row.class_names or ()]
    first: dict[str, str] = {}
    for name in (*given, *(name for name, count in row.used_names.items() if count)):
        first.setdefault(same_class(name), name)
    return list(first.values())


def _checked_names(names: ClassNames | None) -> list[Any] | None:
    """Return class names as they are stored. Raise InvalidRequest."""
    if names is None:
        return None
    errors: list[dict[str, str]] = []
    checked: list[Any] = []
    for index, given in enumerate(names):
        try:
            checked.append(given._replace(name=clean_class_name(given.name)).as_json())
        except InvalidClassNames as error:
            pointer = f"/class_names/{index}"
            errors.append({"pointer": pointer, "code": error.code, "detail": error.detail})
    if errors:
        raise InvalidRequest(errors[0]["detail"], errors, "invalid_class_names")
    return checked or None


def _check_model(services: Services, reference: str, owner: str) -> None:
    """Raise ModelNotFound, JobNotFound or UnknownBackbone."""
    subject = look_up(services.database, reference, owner=owner)
    if isinstance(subject, str):
        services.serving.stock_backbone(subject)


def _trained_names(services: Services, reference: str, owner: str) -> Sequence[str]:
    subject: Subject | None = None
    with suppress(ExpectedError):  # a deleted model
        subject = look_up(services.database, reference, owner=owner)
    return [] if subject is None or isinstance(subject, str) else subject.classes


def _checked_answers(answers: Sequence[AnswerIn], row: tables.Pile, trained: Sequence[str]) -> list[AnswerIn]:
    """Return the answers with class names spelled as in the model or the pile. Raise InvalidRequest."""
    spelling = {same_class(name): name for name in reversed((*trained, *_names(row)))}
    used = {*row.used_names}
    checked: list[AnswerIn] = []
    errors: list[dict[str, str]] = []
    for index, answer in enumerate(answers):
        beyond = [position for position in answer.positions if position >= row.images]
        if beyond:
            errors.append(
                {
                    "pointer": f"/answers/{index}/positions",
                    "code": "unknown_position",
                    "detail": f"The pile has no image {beyond[0]}. It has {row.images:,} images.",
                }
            )
        name = answer.class_name
        if name is not None:
            try:
                clean = clean_class_name(name)
                name = spelling.setdefault(same_class(clean), clean)
                used.add(name)
            except InvalidClassNames as error:
                pointer = f"/answers/{index}/class_name"
                errors.append({"pointer": pointer, "code": error.code, "detail": error.detail})
        same = name == answer.class_name  # copying each of 20,000 answers takes long
        checked.append(answer if same else answer.model_copy(update={"class_name": name}))
    if len(used) > MAX_CLASS_NAMES:
        detail = (
            f"The answers about this pile would have {len(used):,} class names, and the maximum is "
            f"{MAX_CLASS_NAMES:,}. Use names that it has, or begin another pile."
        )
        errors.append({"pointer": "/answers", "code": "too_many_class_names", "detail": detail})
    if errors:
        raise InvalidRequest(errors[0]["detail"], errors[:100], "invalid_answers")
    return checked


def _as_csv(database: Database, owner: str, found: PileSort) -> str:
    """Return a sort as CSV, a line per image. Raise PileNotFound if it was deleted meanwhile."""
    with database.read() as session:
        piles.get(session, found.pile.id, owner=owner)
        files = {row.position: row.file for row in piles.images(session, found.pile.id)}
    rows: list[list[object]] = [["file", "class", "probability", "something_else"]]
    for image in found.images:
        probability = "" if image.probability is None else f"{image.probability:.4f}"
        rows.append([files[image.position], image.class_name or "", probability, image.something_else])
    return as_csv(rows)
