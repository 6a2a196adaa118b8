"""/piles: images that wait for labels, what people said, and trainings with it."""

import hashlib
from datetime import timedelta
from io import BytesIO

import pytest
from PIL import Image

from clipcite.types.piles import MAX_PILE_IMAGES
from core.clip.models.backbone import Backbone
from core.store import piles
from core.store.db.session import database_now
from core.store.db.tables import JobImage, Pile
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.piles.requests import PHOTOS, add, got, new_pile, of_class, photo, say, sorted_pile
from tests.api.service import Body, Service, assert_problem
from tests.api.serving.adapted import CLASSES, publish_model
from worker.dispatcher.cleanup import enforce_retention


def test_images_are_kept_once_as_reduced_copies(fresh: Service) -> None:
    pile_id = new_pile(fresh)
    large = photo(99, (900, 600))
    names = ["a/1.jpg", "a\\2.jpg", "b/1 again.jpg", "broken.jpg"]
    body = add(fresh, pile_id, [large, PHOTOS[0], large, b"no image"], names)
    places = [(one["file"], one["position"], one["is_new"]) for one in body["images"]]
    assert places == [
        ("a/1.jpg", 0, True),
        ("a/2.jpg", 1, True),
        ("b/1 again.jpg", 0, False),
        ("broken.jpg", None, False),
    ]
    assert body["images"][3]["error"]["code"] == "not_an_image"
    assert body["pile"]["counts"]["images"] == 2
    again = add(fresh, pile_id, [PHOTOS[0], PHOTOS[1]])
    assert [(one["position"], one["is_new"]) for one in again["images"]] == [(1, False), (2, True)]
    listed = got(fresh, f"/piles/{pile_id}/images")["data"]
    assert [one["file"] for one in listed] == ["a/1.jpg", "a/2.jpg", "holiday/1.jpg"]
    assert listed[0]["sha256"] == hashlib.sha256(large).hexdigest()
    copy = fresh.client.get(f"/piles/{pile_id}/images/0/file")
    assert copy.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(copy.content)).size == (576, 384)
    assert_problem(fresh.client.get(f"/piles/{pile_id}/images/9/file"), 404, "image_not_found")


def test_match_finds_the_pile_of_the_same_files(fresh: Service, pile: str) -> None:
    other = new_pile(fresh)
    add(fresh, other, PHOTOS[:2])
    hashes = [hashlib.sha256(data).hexdigest() for data in (b"unknown", *PHOTOS[:3])]
    found = fresh.client.post("/piles/match", json={"sha256": hashes}).json()["data"]
    assert [(each["pile"]["id"], each["positions"]) for each in found] == [
        (pile, [None, 0, 1, 2]),
        (other, [None, 0, 1, None]),
    ]


def test_the_last_answer_counts_and_all_are_kept(fresh: Service, pile: str) -> None:
    say(fresh, pile, of_class("Cat", 0, 1, how="group"), of_class("cat", 2, how="drawn"))
    say(fresh, pile, {"positions": [3], "said": "none", "how": "chosen"})
    said = say(
        fresh,
        pile,
        {"positions": [4], "said": "not_class", "class_name": "cat", "how": "group"},
        of_class("cat", 5, 6, how="member"),
        of_class("dog", 1, how="moved"),
        {"positions": [7], "said": "skip", "how": "chosen"},
    )
    assert said["counts"] == {"images": 12, "labelled": 4, "none": 1, "drawn": 1}
    assert said["class_names"] == ["Cat", "dog"]  # the first spelling
    data = got(fresh, f"/piles/{pile}/images")["data"]
    answers = [one["answer"] and (one["answer"]["said"], one["answer"]["class_name"]) for one in data[:8]]
    cat, dog = ("class", "Cat"), ("class", "dog")
    assert answers == [cat, dog, cat, ("none", None), ("not_class", "Cat"), None, None, ("skip", None)]
    assert data[4]["not_classes"] == ["Cat"]
    said = say(fresh, pile, {"positions": [1, 4], "said": "withdrawn", "how": "moved"})
    assert (said["counts"]["labelled"], said["class_names"]) == (3, ["Cat"])
    data = got(fresh, f"/piles/{pile}/images")["data"]
    assert (data[1]["answer"], data[4]["answer"], data[4]["not_classes"]) == (None, None, [])
    with fresh.database.read() as session:
        assert len(piles.answers(session, pile)) == 11


def test_a_name_that_was_taken_back_is_no_class(fresh: Service, pile: str) -> None:
    say(fresh, pile, of_class("cat", 0), of_class("dgo", 1), of_class("dog", 1), of_class("foix", 2))
    barred = {"positions": [3], "said": "not_class", "class_name": "foix", "how": "group"}
    said = say(fresh, pile, {"positions": [2], "said": "withdrawn", "how": "moved"}, barred)
    assert said["class_names"] == ["cat", "dog"]
    assert {name["name"] for name in sorted_pile(fresh, pile)["class_names"]} == {"cat", "dog"}


def test_a_drawn_image_stays_drawn_when_its_label_is_corrected(fresh: Service, pile: str) -> None:
    said = say(fresh, pile, of_class("cat", 0, how="drawn"), of_class("dog", 0, how="moved"))
    assert said["counts"]["drawn"] == 1
    said = say(fresh, pile, of_class("cat", 1), of_class("dog", 2))
    form = {"pile": (None, pile)}
    job = fresh.client.post("/adapt", files=form).json()["id"]
    assert [split for split, _, _ in split_of(fresh, job)] == ["train", "train", "test"]


def test_a_class_that_is_said_is_no_longer_excluded(fresh: Service, pile: str) -> None:
    barred = {"positions": [0], "said": "not_class", "class_name": "cat", "how": "group"}
    say(fresh, pile, barred, of_class("cat", 0))
    assert got(fresh, f"/piles/{pile}/images")["data"][0]["not_classes"] == []


@pytest.mark.parametrize(
    ("answer", "code", "pointer"),
    [
        (of_class("cat", 12), "invalid_answers", "/answers/0/positions"),
        (of_class(" ", 0), "invalid_answers", "/answers/0/class_name"),
        ({"positions": [0], "said": "class", "how": "group"}, "invalid_request", None),
        ({"positions": [0], "said": "none", "class_name": "cat", "how": "group"}, "invalid_request", None),
        ({"positions": [0], "said": "perhaps", "how": "group"}, "invalid_request", None),
        ({"positions": [-1], "said": "none", "how": "group"}, "invalid_request", None),
    ],
)
def test_bad_answers_change_nothing(
    fresh: Service, pile: str, answer: Body, code: str, pointer: str | None
) -> None:
    before = got(fresh, f"/piles/{pile}")
    good = of_class("cat", 0)
    response = fresh.client.post(f"/piles/{pile}/answers", json={"answers": [answer, good]})
    body = assert_problem(response, 422, code)
    if pointer is not None:
        assert body["errors"][0]["pointer"] == pointer
    assert got(fresh, f"/piles/{pile}") == before


def test_the_tag_changes_with_every_change(fresh: Service, pile: str) -> None:
    first = fresh.client.get(f"/piles/{pile}")
    tag = first.headers["etag"]
    same = fresh.client.get(f"/piles/{pile}", headers={"if-none-match": tag})
    assert (same.status_code, same.content) == (304, b"")
    say(fresh, pile, of_class("cat", 0))
    assert fresh.client.get(f"/piles/{pile}", headers={"if-none-match": tag}).status_code == 200
    renamed = fresh.client.patch(f"/piles/{pile}", json={"name": "zoo", "class_names": ["cat", "dog"]})
    assert (renamed.json()["name"], renamed.json()["class_names"]) == ("zoo", ["cat", "dog"])
    assert_problem(fresh.client.patch(f"/piles/{pile}", json={}), 422, "invalid_request")
    assert_problem(fresh.client.patch(f"/piles/{pile}", json={"model": "nothing"}), 404, "model_not_found")


def test_what_a_person_said_decides_the_place(fresh: Service, pile: str) -> None:
    groups = sorted_pile(fresh, pile, groups=10**6)  # more than there are is no error
    assert [image["class_name"] for image in groups["images"]] == [None] * 12
    assert groups["groups"]
    say(
        fresh,
        pile,
        of_class("cat", 0, 1),
        of_class("dog", 2, 3),
        {"positions": [4], "said": "none", "how": "chosen"},
    )
    found = sorted_pile(fresh, pile, ask=3)
    places = [(image["class_name"], image["something_else"]) for image in found["images"]]
    assert places[:5] == [("cat", False)] * 2 + [("dog", False)] * 2 + [(None, True)]
    assert {name for name, other in places if not other} <= {"cat", "dog"}
    assert found["images"][0]["probability"] is None
    assert not {each["position"] for each in found["ask"]} & set(range(5))
    csv = fresh.client.get(f"/piles/{pile}/sort", headers={"accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[1] == "holiday/0.jpg,cat,,False"


def test_another_model_sorts_without_an_upload(fresh: Service, pile: str, backbone: Backbone) -> None:
    model = publish_model(fresh.database, fresh.blobs, backbone)
    assert fresh.client.get(f"/piles/{pile}/sort", params={"model": model}).status_code == 202
    found = sorted_pile(fresh, pile, model=model)
    assert (found["model"], found["done"]) == (model, 12)
    assert {name["name"] for name in found["class_names"]} == set(CLASSES)
    fresh.client.patch(f"/piles/{pile}", json={"model": model})
    assert got(fresh, f"/piles/{pile}/sort")["model"] == model
    body = add(fresh, pile, [photo(50)])  # its features are computed with the upload
    assert body["images"][0]["position"] == 12
    assert got(fresh, f"/piles/{pile}/sort")["done"] == 13


def test_a_pile_without_images_asks_for_them_again(fresh: Service, backbone: Backbone) -> None:
    pile_id = new_pile(fresh, keeps_images=False)
    add(fresh, pile_id, PHOTOS)
    assert got(fresh, f"/piles/{pile_id}")["bytes"] < 30_000
    assert_problem(fresh.client.get(f"/piles/{pile_id}/images/0/file"), 404, "image_not_kept")
    say(fresh, pile_id, of_class("cat", 0), of_class("dog", 1))
    assert sorted_pile(fresh, pile_id)["images"][0]["class_name"] == "cat"
    assert_problem(fresh.client.post("/adapt", files={"pile": (None, pile_id)}), 409, "pile_without_images")
    model = publish_model(fresh.database, fresh.blobs, backbone)
    fresh.client.patch(f"/piles/{pile_id}", json={"model": model})
    assert_problem(
        fresh.client.get(f"/piles/{pile_id}/sort"), 409, "images_not_kept", "Send the images again"
    )
    again = add(fresh, pile_id, PHOTOS)
    assert [one["is_new"] for one in again["images"]] == [False] * 12
    assert got(fresh, f"/piles/{pile_id}/sort")["done"] == 12


def split_of(service: Service, job_id: str) -> list[tuple[str, str, str]]:
    with service.database.read() as session:
        rows = session.query(JobImage).where(JobImage.job_id == job_id).order_by(JobImage.position)
        return [(row.split, row.class_name, row.file_name) for row in rows]


def test_a_training_uses_the_labels(fresh: Service, pile: str) -> None:
    problem = fresh.client.post("/adapt", files={"pile": (None, pile)})
    assert_problem(problem, 422, "no_labels")
    say(
        fresh,
        pile,
        of_class("cat", 0, 1),
        of_class("dog", 2, 3),
        of_class("dog", 4, how="drawn"),
        of_class("dog", 5, how="member"),
        {"positions": [6], "said": "none", "how": "chosen"},
    )
    response = fresh.client.post("/adapt", files={"pile": (None, pile), "name": (None, "pets")})
    assert response.status_code == 202, response.text
    files = [f"holiday/{number}.jpg" for number in range(5)]
    classes = ["cat", "cat", "dog", "dog", "dog"]
    splits = ["train"] * 4 + ["test"]
    assert split_of(fresh, response.json()["id"]) == list(zip(splits, classes, files, strict=True))
    trained = fresh.client.post("/adapt", files={"pile": (None, pile), "pile_drawn": (None, "train")})
    assert [split for split, _, _ in split_of(fresh, trained.json()["id"])] == ["train"] * 5


def test_a_pile_is_deleted_with_everything(fresh: Service, pile: str) -> None:
    say(fresh, pile, of_class("cat", 0))
    assert fresh.blobs.list(f"piles/{pile}")
    assert fresh.client.delete(f"/piles/{pile}").status_code == 204
    assert fresh.blobs.list("piles") == []
    assert_problem(fresh.client.get(f"/piles/{pile}"), 404, "pile_not_found")
    with fresh.database.read() as session:
        assert piles.images(session, pile) == piles.answers(session, pile) == []


def test_a_pile_counts_for_the_quota(make_service: MakeService) -> None:
    service = make_service(max_stored_bytes=20_000)
    pile_id = new_pile(service)
    add(service, pile_id, PHOTOS[:2])
    before = service.stored()
    files = [("images", ("a.jpg", data)) for data in PHOTOS]
    assert_problem(service.client.post(f"/piles/{pile_id}/images", files=files), 507, "quota_stored_bytes")
    assert service.stored() == before
    many = [of_class("cat", *[0] * 200)]
    response = service.client.post(f"/piles/{pile_id}/answers", json={"answers": many})
    assert_problem(response, 507, "quota_stored_bytes")
    assert got(service, f"/piles/{pile_id}")["counts"]["labelled"] == 0


def test_an_unused_pile_is_deleted(fresh: Service, pile: str) -> None:
    other = new_pile(fresh)
    with fresh.database.write() as session:
        row = session.get_one(Pile, pile)
        row.used_at = database_now(session) - timedelta(days=91)
    assert enforce_retention(fresh.settings, fresh.database, fresh.blobs) == 1
    assert [each["id"] for each in got(fresh, "/piles")["data"]] == [other]
    assert fresh.blobs.list(f"piles/{pile}") == []


def test_a_pile_has_a_maximum_of_images(fresh: Service, pile: str) -> None:
    with fresh.database.write() as session:
        session.get_one(Pile, pile).images = MAX_PILE_IMAGES
    files = [("images", ("a.jpg", photo(77)))]
    assert_problem(fresh.client.post(f"/piles/{pile}/images", files=files), 409, "too_many_images")


def test_piles_on_both_databases(either: Service) -> None:
    pile_id = new_pile(
        either, name="zoo \0 photos", class_names=["cat", {"name": "dog", "prompts": ["a dog"]}]
    )
    add(either, pile_id, [*PHOTOS[:3], crafted.jpeg(1)], ["ä.jpg", "b\0.jpg", "c.jpg", "d.jpg"])
    said = say(either, pile_id, of_class("cat", 0), of_class("dog", 1))
    assert said["counts"]["labelled"] == 2
    assert len(sorted_pile(either, pile_id)["images"]) == 4
    assert either.client.delete(f"/piles/{pile_id}").status_code == 204
