"""Upload of images to a pile: hashes, reduced copies and features."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

from fastapi import UploadFile
from PIL import Image as Pillow
from pydantic import BaseModel, Field

from api import quotas
from api.deps import Services
from api.http.forms import display_name
from api.piles.features import PART, Rows, as_blob, encode
from api.serving.service import look_up
from clipcite.types.piles import AddedImage
from clipcite.types.problems import Notice
from core.clip.data.header import ImageLimits
from core.clip.errors import BadImage
from core.store import piles
from core.store.accounts import audit, owners
from core.store.db.ids import new_id
from core.store.db.tables import Pile
from core.store.piles import NewImage
from core.store.storage import deletions, installation

MAX_UPLOAD = 256
"""Maximum number of images per request."""
SHORTER_SIDE = 384
"""Shorter side of the reduced copies (pixels): 512 × 384 for photos. Networks with larger crops need more."""
QUALITY = 90


class PileImagesForm(BaseModel):
    """Images of a pile."""

    images: list[UploadFile] = Field(
        min_length=1,
        max_length=MAX_UPLOAD,
        description="Image files. The file name may be a path with `/`.",
    )


@dataclass
class Sent:
    """A file of the request, until it is stored."""

    file: str
    sha256: str
    copy: bytes = b""
    row: Rows | None = None
    error: BadImage | None = None


def add_images(
    services: Services, pile_id: str, files: Sequence[UploadFile], owner: str
) -> tuple[list[AddedImage], Pile]:
    """Add images to a pile. Those that it has are skipped, unless their features for its model are missing.

    Raises:
        PileNotFound, ModelNotFound, ServerBusy, ByteQuota, Conflict, StorageUnavailable.
    """
    database, blobs, serving = services.database, services.blobs, services.serving
    with database.read() as session:
        pile = piles.get(session, pile_id, owner=owner)
        quotas.check_quota(session, owner, services.settings, more_bytes=0)
    installation.check(database, blobs)
    subject = look_up(database, pile.model, owner=owner)
    with serving.hold(subject, None) as held, serving.memory.hold(owner) as take:
        model_key = held.served.key
        sent: list[Sent] = []
        with database.read() as session:
            hashes = [_hash(upload) for upload in files]
            positions = piles.positions_of(session, pile.id, hashes)
            has = piles.featured(session, pile.id, model_key)
        known, new = set(positions), set[str]()
        done = {sha256 for sha256, position in positions.items() if position in has}
        side = max(SHORTER_SIDE, held.served.backbone.image_size)
        fresh: dict[str, Sent] = {}
        for upload, sha256 in zip(files, hashes, strict=True):
            name = display_name((upload.filename or "").replace("\\", "/")) or "image"
            one = Sent(name, sha256)
            sent.append(one)
            if sha256 not in done and sha256 not in fresh:
                fresh[sha256] = one
        uploads = dict(zip(hashes, files, strict=True))
        waiting = list(fresh.values())
        for start in range(0, len(waiting), PART):
            part = waiting[start : start + PART]
            # Not a list: files of 20 MB are in memory only while they are decoded.
            _reduce(services, part, (_read(services, uploads[one.sha256]) for one in part), side)
            take(sum(len(one.copy) for one in part))
        good = [one for one in waiting if one.error is None]
        for one, row in zip(
            good, encode(serving, [one.copy for one in good], held.served, owner), strict=True
        ):
            if isinstance(row, BadImage):
                one.error = row
            else:
                one.row = row
        good = [one for one in good if one.row is not None]
        if good:
            pile, placed, new = _store(services, pile, good, known, model_key, owner)
            positions |= placed
    errors = {one.sha256: one.error for one in waiting if one.error is not None}
    added = []
    for one in sent:
        error = errors.get(one.sha256)
        added.append(
            AddedImage(
                file=one.file,
                position=positions.get(one.sha256),
                is_new=one.sha256 in new,
                error=None if error is None else Notice(code=error.code, detail=error.detail),
            )
        )
        new.discard(one.sha256)  # a second file with the same content
    return added, pile


def _hash(upload: UploadFile) -> str:
    digest = hashlib.file_digest(upload.file, "sha256")  # type: ignore[arg-type]
    upload.file.seek(0)
    return digest.hexdigest()


def _read(services: Services, upload: UploadFile) -> bytes:
    """Return the content, or as much as shows that it is too large."""
    content = upload.file.read(services.settings.max_image_bytes + 1)
    upload.file.seek(0)
    return content


def _reduce(services: Services, sent: Sequence[Sent], contents: Iterable[bytes], side: int) -> None:
    """Make the reduced copies: JPEG, whose shorter side has at most `side` pixels."""
    settings = services.settings
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    decoded = services.serving.decoding.read(contents, limits, shortest_side=side)
    for one, pixels in zip(sent, decoded, strict=True):
        if isinstance(pixels, BadImage):
            one.error = pixels
        else:
            file = BytesIO()
            Pillow.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
            one.copy = file.getvalue()


def _store(
    services: Services, pile: Pile, sent: Sequence[Sent], known: Collection[str], model_key: str, owner: str
) -> tuple[Pile, dict[str, int], set[str]]:
    """Store the blobs, then the rows that refer to them.

    Args:
        known: SHA-256 of files that the pile has. Only their features are stored.

    Returns:
        The pile, the positions by SHA-256, and the SHA-256 of new files.
    """
    database, blobs = services.database, services.blobs
    folder = f"{piles.blobs_of(pile.id)}/{new_id('bat')}"
    keys = {one.sha256: f"{folder}/{number:05d}.image" for number, one in enumerate(sent)}
    features = as_blob([one.row for one in sent if one.row is not None])
    rows = f"{folder}/rows.features"
    copied = [one for one in sent if pile.keeps_images and one.sha256 not in known]
    with deletions.unless_kept(database, blobs, folder):
        blobs.put_all([*((keys[one.sha256], one.copy) for one in copied), (rows, features)])
        new = [
            NewImage(
                one.sha256,
                one.file,
                *(
                    (keys[one.sha256], hashlib.sha256(one.copy).hexdigest(), len(one.copy))
                    if pile.keeps_images
                    else (None, None, 0)
                ),
            )
            for one in sent
        ]
        with database.write() as session:
            owners.lock(session, owner)
            pile = piles.get(session, pile.id, owner=owner, lock=True)
            # Another request may have stored the same files or features meanwhile.
            positions = piles.positions_of(session, pile.id, list(keys))
            fresh = [each for each in new if each.sha256 not in positions]
            has = piles.featured(session, pile.id, model_key)
            if not fresh and has.issuperset(positions.values()):
                return pile, positions, set()
            more = len(features) + sum(piles.IMAGE_BYTES + each.bytes for each in fresh)
            quotas.check_quota(session, owner, services.settings, more_bytes=more)
            deletions.keep(session, folder)
            for one in copied:
                if one.sha256 in positions:
                    deletions.mark_for_deletion(session, keys[one.sha256])
            positions |= piles.add_images(session, pile, fresh)
            piles.add_features(
                session,
                pile,
                model_key,
                rows,
                [positions[one.sha256] for one in sent],
                sha256=hashlib.sha256(features).hexdigest(),
                size=len(features),
            )
            piles.changed(session, pile)
            audit.record("pile.add", pile.id)
    return pile, positions, {each.sha256 for each in fresh}
