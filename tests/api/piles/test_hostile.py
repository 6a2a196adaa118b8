"""/piles under attack: other owners, oversized bodies, quotas, damaged files, two processes at once."""

import json
import threading
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from api.piles import features, images
from clipcite.types.base import MAX_CLASS_NAMES
from core.clip.models.backbone import Backbone
from core.store import piles
from core.store.accounts import owners
from core.store.db.tables import PileFeatures
from core.store.errors import StorageUnavailable
from core.store.registry import models
from core.store.storage import installation
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.piles.requests import (
    PHOTOS,
    add,
    answer_of_sort,
    got,
    new_pile,
    of_class,
    photo,
    say,
    sorted_pile,
)
from tests.api.service import Body, Service, assert_problem
from tests.api.serving.adapted import publish_model
from tests.core.store.races import at_once


def keys_of(service: Service, pile_id: str) -> set[str]:
    return {blob.key for blob in service.blobs.list(f"piles/{pile_id}")}


def named_keys(service: Service, pile_id: str) -> set[str]:
    """Return the blobs that rows name."""
    with service.database.read() as session:
        copies = {str(row.blob_key) for row in piles.images(session, pile_id) if row.blob_key}
        parts = session.query(PileFeatures).where(PileFeatures.pile_id == pile_id)
        return copies | {part.blob_key for part in parts}


def true_bytes(service: Service, pile_id: str) -> int:
    return sum(blob.bytes for blob in service.blobs.list(f"piles/{pile_id}"))


# --- texts ---


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_odd_texts_are_replaced_or_refused_everywhere(either: Service, text: str) -> None:
    pile_id = new_pile(either)
    # JSON escapes, because no client library sends these
    for method, path, body in (
        ("PATCH", f"/piles/{pile_id}", {"name": text}),
        ("PATCH", f"/piles/{pile_id}", {"model": f"stock:{text}"}),
        ("POST", "/piles", {"model": f"stock:{text}"}),
        ("POST", "/piles", {"name": text, "class_names": [{"name": "cat", "prompts": [text]}]}),
        ("POST", "/piles", {"class_names": [text]}),
        ("POST", f"/piles/{pile_id}/answers", {"answers": [of_class(text, 0)]}),
    ):
        response = either.client.request(
            method, path, content=json.dumps(body), headers={"content-type": "application/json"}
        )
        assert response.status_code < 500, (method, body, response.text)
    assert either.client.get(f"/piles/{pile_id}").status_code == 200
    for path in (f"/piles/{text}", f"/piles/{text}/images", f"/piles/{text}/sort"):
        response = either.client.get(quote(path, errors="replace"))
        assert response.status_code in (404, 400), response.text


def test_a_name_is_short(fresh: Service) -> None:
    assert_problem(fresh.client.post("/piles", json={"name": "x" * 201}), 422, "invalid_request")


def test_an_unknown_backbone_is_refused_at_once(fresh: Service) -> None:
    assert_problem(fresh.client.post("/piles", json={"model": "stock:nothing"}), 422, "unknown_backbone")


def test_answers_before_an_owner_exists(fresh: Service) -> None:
    response = fresh.client.post("/piles/pil_x/answers", json={"answers": [of_class("cat", 0)]})
    assert_problem(response, 404, "pile_not_found")


def test_a_long_image(fresh: Service) -> None:
    pile_id = new_pile(fresh)
    file = BytesIO()
    Image.new("RGB", (70_000, 100)).save(file, "PNG")
    body = add(fresh, pile_id, [file.getvalue(), PHOTOS[0]])
    assert [one["error"] for one in body["images"]] == [None, None]
    copy = fresh.client.get(f"/piles/{pile_id}/images/0/file")
    assert copy.status_code == 200


def test_files_that_are_no_images_stop_no_others(fresh: Service) -> None:
    pile_id = new_pile(fresh)
    hostile = {**crafted.NOT_IMAGES, **crafted.POLYGLOTS, "too many pixels": crafted.pixel_bomb()}
    whole = crafted.encoded(Image.new("RGB", (64, 48)), "HEIF")
    hostile |= {"half a photo": PHOTOS[1][:700], "half a HEIC": whole[: len(whole) // 2]}
    body = add(fresh, pile_id, [*hostile.values(), whole, PHOTOS[0]], [*hostile, "a.heic", "a.jpg"])
    read = {one["file"]: (one["error"] or {}).get("code") for one in body["images"]}
    assert (read.pop("a.heic"), read.pop("a.jpg")) == (None, None)
    assert set(read) == set(hostile)
    assert None not in read.values()
    assert body["pile"]["counts"]["images"] == 2
    assert keys_of(fresh, pile_id) == named_keys(fresh, pile_id)


# --- sizes ---


def test_class_names_of_a_pile_have_a_maximum(fresh: Service, pile: str) -> None:
    many = [of_class(f"class {number}", 0) for number in range(MAX_CLASS_NAMES + 1)]
    response = fresh.client.post(f"/piles/{pile}/answers", json={"answers": many})
    assert_problem(response, 422, "invalid_answers")


def test_large_bodies_are_refused(fresh: Service, pile: str) -> None:
    names = ["x" * 199 + chr(97 + n % 26) for n in range(1000)]
    assert_problem(fresh.client.post("/piles", json={"class_names": names}), 413, "request_too_large")
    assert_problem(
        fresh.client.patch(f"/piles/{pile}", json={"class_names": names}), 413, "request_too_large"
    )
    answers = [of_class("cat", *[0] * 20_000)] * 300
    response = fresh.client.post(f"/piles/{pile}/answers", json={"answers": answers})
    assert_problem(response, 413, "too_many_values")


def test_a_pile_has_a_maximum_of_answers(fresh: Service, pile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piles, "MAX_ANSWERS", 20)
    say(fresh, pile, of_class("cat", *range(12)))
    response = fresh.client.post(f"/piles/{pile}/answers", json={"answers": [of_class("dog", *range(9))]})
    assert_problem(response, 409, "too_many_answers", "21 answers")
    assert got(fresh, f"/piles/{pile}")["counts"]["labelled"] == 12


# --- quota ---


def test_features_for_another_model_count_for_the_quota(
    make_service: MakeService, backbone: Backbone
) -> None:
    service = make_service()
    pile_id = new_pile(service)
    add(service, pile_id, PHOTOS)
    model = publish_model(service.database, service.blobs, backbone)
    before = got(service, f"/piles/{pile_id}")["bytes"]
    with service.database.read() as session:
        held = before + models.get(session, model, owner="default").bytes
    service.settings.max_stored_bytes = held + 100
    assert_problem(answer_of_sort(service, pile_id, model=model), 507, "quota_stored_bytes")
    assert got(service, f"/piles/{pile_id}")["bytes"] == before
    assert keys_of(service, pile_id) == named_keys(service, pile_id)


def test_every_stored_byte_counts(fresh: Service, backbone: Backbone) -> None:
    pile_id = new_pile(fresh)
    add(fresh, pile_id, PHOTOS)
    model = publish_model(fresh.database, fresh.blobs, backbone)
    fresh.client.patch(f"/piles/{pile_id}", json={"model": model})
    add(fresh, pile_id, PHOTOS)  # only features are missing
    assert keys_of(fresh, pile_id) == named_keys(fresh, pile_id)
    assert got(fresh, f"/piles/{pile_id}")["bytes"] >= true_bytes(fresh, pile_id)


def test_the_same_files_at_once_are_stored_once(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    pile_id = new_pile(fresh)
    barrier = threading.Barrier(2, timeout=30)
    store = images._store

    def together(*args: Any) -> Any:
        barrier.wait()
        return store(*args)

    monkeypatch.setattr(images, "_store", together)
    bodies: list[Body] = at_once(*[lambda: add(fresh, pile_id, PHOTOS)] * 2)
    assert got(fresh, f"/piles/{pile_id}")["counts"]["images"] == 12
    assert sorted(sum(one["is_new"] for one in body["images"]) for body in bodies) == [0, 12]
    assert keys_of(fresh, pile_id) == named_keys(fresh, pile_id)
    assert got(fresh, f"/piles/{pile_id}")["bytes"] < 1.5 * true_bytes(fresh, pile_id) + 12_000


def test_long_texts_of_answers_count(fresh: Service, pile: str) -> None:
    before = got(fresh, f"/piles/{pile}")["bytes"]
    say(fresh, pile, of_class("\U0001f98a" * 200, *[0] * 100))
    assert got(fresh, f"/piles/{pile}")["bytes"] >= before + 100 * 800


# --- failures ---


def test_an_unexpected_error_of_features_is_shown(
    fresh: Service, pile: str, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)

    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(features, "encode", broken)
    assert answer_of_sort(fresh, pile, model=model).status_code == 500


def damage(service: Service, key: str, content: bytes = b"damaged") -> None:
    assert service.blobs.folder is not None
    (service.blobs.folder / key).write_bytes(content)


def test_damaged_features_are_named(make_service: MakeService) -> None:
    service = make_service()
    pile_id = new_pile(service)
    add(service, pile_id, PHOTOS)
    for key in keys_of(service, pile_id):
        if key.endswith(".features"):
            damage(service, key)
    response = service.client.get(f"/piles/{pile_id}/sort")
    assert_problem(response, 503, "blob_damaged")


def test_a_damaged_copy_is_named(fresh: Service, pile: str, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    with fresh.database.read() as session:
        damage(fresh, str(piles.images(session, pile)[3].blob_key))
    assert_problem(answer_of_sort(fresh, pile, model=model), 503, "blob_damaged")


def test_a_storage_of_a_pile_is_known(fresh: Service, pile: str) -> None:
    fresh.blobs.delete(installation.KEY)
    installation.check(fresh.database, fresh.blobs)  # it has the pile's files
    for key in keys_of(fresh, pile):
        fresh.blobs.delete(key)
    with pytest.raises(StorageUnavailable):
        installation.check(fresh.database, fresh.blobs)


def test_a_large_pile_is_admitted_alone(make_service: MakeService) -> None:
    service = make_service()
    pile_id = new_pile(service)
    add(service, pile_id, PHOTOS)
    service.app.state.memory.most = 12_000  # a pile of 20,000 images with the usual memory is as large
    say(service, pile_id, of_class("cat", 0), of_class("dog", 1))
    assert sorted_pile(service, pile_id)["images"][0]["class_name"] == "cat"


def test_a_job_keeps_its_images_when_the_pile_is_deleted(fresh: Service, pile: str) -> None:
    say(fresh, pile, of_class("cat", 0, 1), of_class("dog", 2, 3))
    response = fresh.client.post("/adapt", files={"pile": (None, pile)})
    assert response.status_code == 202
    fresh.client.delete(f"/piles/{pile}")
    job = response.json()["id"]
    for position in range(4):
        assert fresh.client.get(f"/jobs/{job}/images/{position}").status_code == 200


def test_a_delete_during_an_upload_leaves_nothing(
    fresh: Service, pile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = images._store

    def deleted(*args: Any) -> Any:
        assert fresh.client.delete(f"/piles/{pile}").status_code == 204
        return store(*args)

    monkeypatch.setattr(images, "_store", deleted)
    files = [("images", ("a.jpg", photo(50)))]
    assert_problem(fresh.client.post(f"/piles/{pile}/images", files=files), 404, "pile_not_found")
    assert fresh.blobs.list("piles") == []


def test_owners_take_turns_for_features(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "THREADS", 1)
    store = features.PileFeatureStore(fresh.database, fresh.blobs, fresh.app.state.serving)
    done: list[str] = []
    both, ended = threading.Event(), threading.Event()

    def part(key: tuple[str, str], owner: str, *_: object) -> bool:
        assert both.wait(30)
        done.append(owner)
        if len(done) == 6:
            ended.set()
        return done.count(owner) < 3

    monkeypatch.setattr(store, "_compute_part", part)
    made = []
    with fresh.database.write() as session:
        for owner in ("first", "second"):
            owners.ensure(session, owner)
            made.append(
                piles.create(
                    session, owner=owner, name="", model="stock", class_names=None, keeps_images=True
                )
            )
    for row in made:
        store.compute(row, "stock", None, "key")
    both.set()
    assert ended.wait(30)
    store.close()
    assert done == ["first", "second"] * 3


# --- ETag, HEAD ---


@pytest.mark.parametrize(
    ("sent", "status"),
    [("*", 304), ('W/"{}"', 304), ('"x", "{}"', 304), ('"0{}"', 200), ("{}", 200), ("x" * 60_000, 200)],
)
def test_tags(fresh: Service, pile: str, sent: str, status: int) -> None:
    revision = got(fresh, f"/piles/{pile}")["revision"]
    response = fresh.client.get(
        f"/piles/{pile}", headers={"if-none-match": sent.replace("{}", str(revision))}
    )
    assert response.status_code == status


def test_head(fresh: Service, pile: str) -> None:
    for path in ("", "/images", "/images/0/file", "/sort"):
        response = fresh.client.head(f"/piles/{pile}{path}")
        assert response.status_code == 200, path
        assert response.content == b""
    assert fresh.client.options(f"/piles/{pile}").status_code == 405


def test_wrong_content_types(fresh: Service, pile: str) -> None:
    for path in (f"/piles/{pile}/images", f"/piles/{pile}/answers", "/piles/match", "/piles"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            response = fresh.client.post(path, content=b"x=1", headers={"content-type": kind})
            assert 400 <= response.status_code < 500, (path, kind, response.text)


def test_too_many_files(fresh: Service, pile: str) -> None:
    files = [("images", ("same.jpg", PHOTOS[0]))] * 257
    assert_problem(fresh.client.post(f"/piles/{pile}/images", files=files), 422, "invalid_request")
    files = [("images", ("same.jpg", data)) for data in (photo(70), photo(71))]
    body = fresh.client.post(f"/piles/{pile}/images", files=files).json()
    assert [one["position"] for one in body["images"]] == [12, 13]


def test_formulas_and_markup_in_names(fresh: Service) -> None:
    pile_id = new_pile(fresh, name="<script>")
    add(fresh, pile_id, PHOTOS[:2], ["=1+1.jpg", "<img src=x>.jpg"])
    say(fresh, pile_id, of_class("@cmd", 0), of_class("dog", 1))
    csv = fresh.client.get(f"/piles/{pile_id}/sort", headers={"accept": "text/csv"}).text
    assert csv.splitlines()[1].startswith("'=1+1.jpg,'@cmd")


@pytest.mark.parametrize("position", [10**30, int("9" * 4000), 2**31])
def test_huge_positions(fresh: Service, pile: str, position: int) -> None:
    response = fresh.client.post(f"/piles/{pile}/answers", json={"answers": [of_class("cat", position)]})
    assert response.status_code == 422, response.text
