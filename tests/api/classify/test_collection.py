"""Features of POST /classify, and POST /classify/collection."""

import base64
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from api.serving.service import look_up
from clipcite.types.classify import MAX_COLLECTION_IMAGES
from core.clip import prompts
from core.clip.inference import labelled
from core.clip.inference.labelled import Shots
from core.clip.inference.request_rule import RequestRule, request_rule
from core.clip.inference.self_training import self_trained
from core.clip.models.backbone import Backbone
from core.clip.weights.support_set import SupportSet
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.tables import Model
from tests.api import crafted
from tests.api.service import Body, Service, assert_problem, shots
from tests.api.serving.adapted import CLASSES, KNOWN, publish_model

WIDTH = 32


@pytest.fixture(scope="module")
def model(shared: Service, backbone: Backbone) -> str:
    """Publish a calibrated model."""
    support = SupportSet(around(8, seed=1).expand(3, -1, -1), torch.arange(8) % 2)
    metrics = {"calibration": KNOWN.to_dict()}
    return publish_model(shared.database, shared.blobs, backbone, shots=support, metrics=metrics)


def around(count: int, seed: int) -> Tensor:
    """Return features [count, D] of two classes in turn."""
    centres, noise = (
        torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(number))
        for rows, number in ((2, 0), (count, seed))
    )
    return F.normalize(centres[torch.arange(count) % 2] + noise, dim=-1)


def encoded(rows: Tensor) -> list[str]:
    return [base64.b64encode(row.tobytes()).decode() for row in rows.numpy().astype("<f2")]


FEATURES = encoded(around(120, seed=2))


def numbers(features: Sequence[str]) -> np.ndarray[Any, Any]:
    return np.stack([np.frombuffer(base64.b64decode(text), "<f2") for text in features])


def ask(service: Service, features: Sequence[str], **fields: Any) -> httpx.Response:
    return service.client.post("/classify/collection", json={"features": features, **fields})


def ok(response: httpx.Response) -> Body:
    assert response.status_code == 200, response.text
    body: Body = response.json()
    return body


def chances(body: Body) -> list[dict[str, float]]:
    return [{p["class_name"]: p["probability"] for p in r["predictions"]} for r in body["results"]]


def test_features(shared: Service, model: str) -> None:
    images = [{"base64": base64.b64encode(data).decode()} for data in (crafted.png(1), b"", crafted.png(2))]
    files = [
        ("images", (name, base64.b64decode(image["base64"])))
        for name, image in zip("abc", images, strict=True)
    ]
    by_form = shared.client.post("/classify", data={"model": model, "features": "true"}, files=files)
    body = {"images": images, "class_names": ["oak"], "features": True}
    adapted, stock = (
        shared.client.post("/classify", json={**body, "model": each}) for each in (model, "stock")
    )
    found = [[r["features"] for r in ok(one)["results"]] for one in (by_form, adapted, stock)]
    assert [one.pop(1) for one in found] == [None] * 3
    rows = [numbers(one) for one in found]
    assert rows[0].shape == (2, WIDTH)
    assert np.linalg.norm(rows[0].astype(float), axis=1) == pytest.approx(1, abs=1e-3)
    assert rows[1] == pytest.approx(rows[0], abs=2e-3)
    assert rows[2] != pytest.approx(rows[0], abs=0.01)
    (plain,) = ok(shared.client.post("/classify", data={"model": model}, files=files[:1]))["results"]
    assert plain["features"] is None


def test_a_closed_collection_is_evidence(shared: Service, model: str) -> None:
    body = ok(ask(shared, FEATURES, model=model))
    assert (body["method"], body["rule"], len(body["results"])) == ("self_training", "closed", len(FEATURES))
    assert "help to sort the others" in body["reason"]
    assert {result["file"] for result in body["results"]} == {None}
    assert (body["calibration"]["calibrated"], body["calibration"]["temperature"]) == (False, 2.0)
    serving = shared.app.state.serving
    subject = look_up(shared.database, model, owner="default")
    assert isinstance(subject, Model)
    with serving.hold(subject, None) as loaded:
        prompts = [tuple(template.format(name) for template in subject.templates) for name in CLASSES]
        texts = serving.texts.features(loaded.served, prompts, lambda more: None)
        rows = F.normalize(torch.from_numpy(numbers(FEATURES).astype(np.float32)), dim=-1)
        scale, kept = loaded.served.backbone.logit_scale, loaded.served.shots
    found = [[one[name] for name in CLASSES] for one in chances(body)]
    grown, alone = self_trained(kept, texts, [0, 1], rows, scale), request_rule(kept, texts, [0, 1])
    expected, other = ((scale / 2 * rule.scores(rows)).softmax(dim=1).tolist() for rule in (grown, alone))
    assert np.allclose(found, expected, atol=1e-4)
    assert not np.allclose(found, other, atol=1e-2)
    top = ok(ask(shared, FEATURES, model=model, top_k=1))
    assert [r["predictions"] for r in top["results"]] == [r["predictions"][:1] for r in body["results"]]


def test_images_to_label_next(shared: Service, model: str) -> None:
    labels = {0: CLASSES[0], 1: CLASSES[1]}
    body = ok(ask(shared, FEATURES, model=model, suggest=5, labels=labels))
    first = body["suggested"]
    assert len(first) == len({*first, 0, 1}) - 2 == 5
    labels |= dict.fromkeys(first)  # none of the classes
    again = ok(ask(shared, FEATURES, model=model, suggest=5, labels=labels))
    assert not set(again["suggested"]) & set(first)
    assert first[0] == min(range(2, len(FEATURES)), key=lambda i: max(chances(body)[i].values()))
    assert ok(ask(shared, FEATURES, model=model))["suggested"] == []


def test_new_classes_are_suggested_first(shared: Service, model: str) -> None:
    names = [*CLASSES, *("otter", "crow", "elk", "pine", "fern", "moss", "stone", "lake")]

    def first(labels: dict[int, str]) -> tuple[int, int, str]:
        """Return the first suggestion, the most certain image of its predicted class, and this class."""
        body = ok(ask(shared, FEATURES, model=model, class_names=names, suggest=4, labels=labels))
        best = [result["predictions"][0] for result in body["results"]]
        position = body["suggested"][0]
        own = [i for i, one in enumerate(best) if one["class_name"] == best[position]["class_name"]]
        assert len(own) > 2
        return position, max(own, key=lambda i: best[i]["probability"]), best[position]["class_name"]

    position, surest, new = first({})
    assert position == surest
    assert new not in CLASSES
    position, surest, name = first(dict.fromkeys(range(3), new))
    assert position != surest or name != new  # three images are enough


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"class_names": [*CLASSES, "oak"]}, "was not trained on 'oak'"),
        ({"class_names": ["red fox"]}, "Only one class name"),
        ({"new_class_balance": 0}, "new_class_balance is 0"),
        ({"alpha": 0}, "Without a trained model"),
        ({"model": "stock", "class_names": [*CLASSES]}, "Without a trained model"),
        ({"model": "WITHOUT SHOTS"}, "Without a trained model"),
        ({"model": "A JOB"}, "Without a trained model"),
    ],
)
def test_other_collections_are_classified_image_by_image(
    shared: Service, backbone: Backbone, model: str, fields: Body, reason: str
) -> None:
    asked = {"model": model, **fields}
    if asked["model"] == "WITHOUT SHOTS":
        asked["model"] = publish_model(shared.database, shared.blobs, backbone)
    elif asked["model"] == "A JOB":
        asked["model"] = shared.accepted(**shots())["id"]
    files = [("images", (f"{i}.png", crafted.png(i))) for i in range(4)]
    alone = ok(shared.client.post("/classify", data={**asked, "features": "true"}, files=files))
    body = ok(ask(shared, [result["features"] for result in alone["results"]], **asked))
    assert body["method"] == "image_by_image"
    assert reason in body["reason"]
    assert body["calibration"]["calibrated"] is False
    for one, other in zip(chances(body), chances(alone), strict=True):
        assert one == pytest.approx(other, abs=0.02)  # float16


def test_a_collection_without_a_class_is_classified_image_by_image(shared: Service, model: str) -> None:
    body = ok(ask(shared, [*FEATURES[::2], *FEATURES[::2]], model=model))
    assert body["method"] == "image_by_image"
    assert body["reason"].startswith("No image looks like 'Badger'. Images help")


def like(row: Tensor, count: int, seed: int, spread: float = 0.3) -> Tensor:
    """Return features [count, D] of images that look like one."""
    noise = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return F.normalize(row + spread * noise / WIDTH**0.5, dim=-1)


STRANGER = F.normalize(torch.randn(WIDTH, generator=torch.Generator().manual_seed(5)), dim=-1)
PILE = encoded(torch.cat([around(60, seed=2), like(STRANGER, 30, seed=6)]))
"""60 images of the trained classes, then 30 that look like each other."""
OTHERS = range(60, 90)


def first_names(body: Body) -> list[str]:
    return [result["predictions"][0]["class_name"] for result in body["results"]]


@pytest.mark.parametrize("reference", ["A MODEL", "stock"])
def test_labels_count_at_once(shared: Service, model: str, reference: str) -> None:
    """They change the answer for the images beside them, and nothing is kept."""
    asked: Body = {"model": model if reference == "A MODEL" else "stock", "class_names": [*CLASSES]}
    before = ok(ask(shared, PILE, **asked))
    for label in CLASSES:
        labels = {60: label, 61: label.upper(), 62: label, 0: CLASSES[0], 1: CLASSES[1]}
        after = ok(ask(shared, PILE, **asked, labels=labels))
        assert {first_names(after)[position] for position in OTHERS} == {label}
        for position in OTHERS[3:]:  # for one label they were sure before
            assert chances(after)[position][label] > chances(before)[position][label] - 0.01
    assert ok(ask(shared, PILE, **asked))["results"] == before["results"]


def test_a_class_that_only_labels_name(shared: Service, model: str) -> None:
    asked: Body = {"model": model, "class_names": [*CLASSES, "oak"]}
    before = ok(ask(shared, PILE, **asked))
    assert "was not trained on 'oak'" in before["reason"]
    after = ok(ask(shared, PILE, **asked, labels=dict.fromkeys((60, 61, 62), "oak")))
    assert {first_names(after)[position] for position in OTHERS} == {"oak"}
    assert first_names(after)[:60].count("oak") <= 3
    assert [each["kind"] for each in after["class_names"]] == ["trained", "trained", "new"]


def test_labels_count_in_the_prior() -> None:
    """A new class with one label is not lost to trained ones with three images each."""
    labels, classes, texts = torch.tensor([0, 0, 0, 1, 1, 1, 2]), [0, 1, 2], around(3, seed=4)
    features = around(7, seed=3)
    sorter = labelled.Sorter([*"abc"], texts, [0, 1, -1], (features[:6], labels[:6]), 30.0, 0.35)
    asked = Shots.of(sorter, features[6:], np.array([2]))
    assert (asked.labels.tolist(), asked.classes) == (labels.tolist(), classes)
    scores, without = (
        rule.scores(features)
        for rule in (asked.rule(sorter), request_rule((features, labels), texts, classes))
    )
    less = torch.tensor([3.0, 3.0, 1.0]).log() / 30
    torch.testing.assert_close(scores, without - less)


def test_something_else(shared: Service, model: str) -> None:
    """Most trained images are kept. Images unlike them are rejected, although each has a likely class."""
    body = ok(ask(shared, PILE, model=model, reject=True))
    rejected = [result["rejected"] for result in body["results"]]
    assert all(rejected[position] for position in OTHERS)
    assert sum(rejected[:60]) <= 15
    limit = body["calibration"]["rejection_threshold"]
    assert rejected == [result["in_distribution_score"] < limit for result in body["results"]]
    assert all(result["predictions"] for result in body["results"])
    plain = ok(ask(shared, PILE, model=model))
    assert {result["rejected"] for result in plain["results"]} == {None}
    suggested = ok(ask(shared, PILE, model=model, reject=True, suggest=90))["suggested"]
    known = rejected.count(False)
    assert not any(rejected[position] for position in suggested[:known])
    assert all(rejected[position] for position in suggested[known:])


@pytest.mark.parametrize("reject", [False, True])
def test_a_label_decides_for_its_image(
    shared: Service, model: str, monkeypatch: pytest.MonkeyPatch, reject: bool
) -> None:
    """The image is no shot of the class that is predicted for it."""
    grown: list[Tensor] = []

    def watched(*given: Any) -> RequestRule:
        grown.append(given[3])
        return self_trained(*given)

    monkeypatch.setattr(labelled, "self_trained", watched)
    labels = {0: CLASSES[1], 1: None, 60: CLASSES[0]}
    body = ok(ask(shared, PILE, model=model, reject=reject, labels=labels))
    rows = F.normalize(torch.from_numpy(numbers(PILE)[list(labels)].astype(np.float32)), dim=-1)
    assert (grown[0] @ rows.T).max() < 0.999
    assert len(grown[0]) > 40
    rejected = [body["results"][position]["rejected"] for position in labels]
    assert rejected == ([False, True, False] if reject else [None] * 3)


def test_marks_of_none_of_these_reach_the_images_beside_them(shared: Service, model: str) -> None:
    near = F.normalize(around(60, seed=9)[::2] + 0.3 * STRANGER, dim=-1)  # like the first class
    pile = [*encoded(around(60, seed=2)), *encoded(near)]
    before = ok(ask(shared, pile, model=model, reject=True))
    after = ok(ask(shared, pile, model=model, reject=True, labels=dict.fromkeys((60, 61, 62, 63))))
    known, still_known = ([not result["rejected"] for result in body["results"]] for body in (before, after))
    assert sum(known[60:]) > 15
    assert sum(still_known[60:]) < sum(known[60:]) / 2
    assert not any(still_known[60:64])
    assert sum(still_known[:60]) >= sum(known[:60]) - 8


def test_reject_leaves_names_that_were_never_trained(shared: Service, model: str) -> None:
    """There is nothing to compare their images with."""
    asked: Body = {"model": model, "class_names": [*CLASSES, "oak", "elm", "ash", "fir", "yew"]}
    body = ok(ask(shared, PILE, **asked, reject=True))
    judged = list(zip(first_names(body), (result["rejected"] for result in body["results"]), strict=True))
    assert {rejected for name, rejected in judged if name not in CLASSES} == {False}
    assert True in {rejected for name, rejected in judged if name in CLASSES}


def test_reject_needs_a_training_image_or_a_label(shared: Service, backbone: Backbone, model: str) -> None:
    without = publish_model(shared.database, shared.blobs, backbone)
    for asked in (
        {"model": "stock", "class_names": [*CLASSES]},
        {"model": without},
        {"model": model, "class_names": ["oak"]},
    ):
        refused = ask(shared, PILE, **asked, reject=True)
        assert_problem(refused, 422, "no_training_images", "label images of a collection")
    labels = {0: CLASSES[0], 2: CLASSES[0], 4: CLASSES[0], 1: CLASSES[1], 3: CLASSES[1], 5: CLASSES[1]}
    body = ok(ask(shared, PILE, model="stock", class_names=[*CLASSES], labels=labels, reject=True))
    assert {type(result["rejected"]) for result in body["results"]} == {bool}


def test_groups_need_no_model_and_no_names(shared: Service, model: str) -> None:
    kinds = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(8))
    rows = torch.cat([like(F.normalize(kind, dim=-1), 15, seed=i) for i, kind in enumerate(kinds)])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(9))
    pile, kind_of = encoded(rows[order]), (order // 15).tolist()
    body = ok(ask(shared, pile, model="stock", groups=500))
    groups = body["groups"]
    assert 4 <= len(groups) <= 5
    assert [len({kind_of[position] for position in group}) for group in groups] == [1] * len(groups)
    assert len({position for group in groups for position in group}) == sum(map(len, groups)) > 50
    assert (body["class_names"], len(body["results"])) == ([], 60)
    assert not any(result["predictions"] for result in body["results"])
    for group in groups:  # the most typical image first
        members = rows[order][group]
        assert int((members @ members.mean(dim=0)).argmax()) == 0
    assert ok(ask(shared, pile, model="stock", groups=2))["groups"] == groups[:2]
    shown = dict.fromkeys(groups[0])
    rest = ok(ask(shared, pile, model=model, groups=9, labels=shown))["groups"]
    assert not any(position in shown for group in rest for position in group)
    refused = ask(shared, pile, model="stock")
    assert_problem(refused, 422, "invalid_request", "no classes of its own")


def test_groups_without_names_take_nothing_that_needs_names(shared: Service) -> None:
    refused = ask(shared, PILE, groups=3, reject=True, suggest=5, labels={0: None, 1: "oak"})
    errors = [{"pointer": f"/{name}"} for name in ("reject", "suggest", "labels")]
    assert_problem(refused, 422, "invalid_request", "omit reject, suggest, labels", errors=errors)
    assert ok(ask(shared, PILE, groups=3, labels={0: None}))["groups"]
    nowhere = ask(shared, PILE, model="stock:nonsense", groups=3)
    assert_problem(nowhere, 422, "unknown_backbone", "'nonsense'")


@pytest.mark.parametrize(
    ("labels", "code", "words"),
    [
        ({"90": CLASSES[0]}, "invalid_request", "outside the 90 features"),
        ({"-1": None}, "invalid_request", "outside the 90 features"),
        ({"first": CLASSES[0]}, "invalid_request", "labels"),
        ({"0": CLASSES[0], "1": "elm"}, "invalid_labels", "'elm' in `labels` is not in `class_names`"),
        ([0, 1], "invalid_request", "labels"),
    ],
)
def test_labels_that_do_not_fit(shared: Service, model: str, labels: Any, code: str, words: str) -> None:
    assert_problem(ask(shared, PILE, model=model, labels=labels), 422, code, words)


def test_labels_are_cleaned_like_class_names(
    shared: Service, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is too long is refused before it is normalised: a row of accents takes quadratic time."""
    names = ["oak ", "Cafe\u0301"]
    ok(ask(shared, FEATURES, model=model, class_names=names, labels={0: "oak ", 1: "caf\u00e9", 2: " OAK"}))
    monkeypatch.setattr(prompts, "unicodedata", SimpleNamespace(normalize=pytest.fail))
    refused = ask(shared, FEATURES, model=model, labels={3: None, 7: "a" + "\u0316\u0301" * 2000})
    says = "^The class name 'a.{39}…' has 4001 characters"
    assert_problem(refused, 422, "invalid_class_names", says, errors=[{"pointer": "/labels/7"}])


def test_features_that_do_not_fit(shared: Service, model: str) -> None:
    odd = [*encoded(torch.ones(1, WIDTH - 1)), *encoded(torch.full((1, WIDTH), torch.nan))]
    odd += [*encoded(torch.full((1, WIDTH), torch.inf)), *encoded(torch.zeros(1, WIDTH))]
    for bad in ("no base64", "AAA=", "", *odd):
        response = ask(shared, [*FEATURES, bad], model=model)
        says = "1 of 121 features .* as POST /classify returned them"
        assert_problem(response, 422, "invalid_features", says, errors=[{"pointer": "/features/120"}])
    other = ask(shared, encoded(torch.ones(4, 48)), model=model)
    assert_problem(other, 422, "invalid_features", "have 48 numbers each, but this model needs 32")
    for many in ([], ["AAA="] * (MAX_COLLECTION_IMAGES + 1)):
        assert_problem(ask(shared, many, model=model), 422, "invalid_request", "features")
    assert_problem(ask(shared, FEATURES, model=model, coverage=0.9), 422, "invalid_request", "coverage")
    large = ask(shared, FEATURES * 100, model=model, class_names=[f"name {i}" for i in range(10)])
    assert_problem(large, 422, "invalid_request", "Send `top_k` of at most 8")


def test_the_largest_collection_works_beside_another_request_of_its_owner(
    shared: Service, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, memory = shared.app.state.serving.images, shared.app.state.memory
    seen: list[tuple[str, int, int]] = []

    def watched(*given: Any) -> RequestRule:
        seen.append((threading.current_thread().name, images.held, memory.held))
        return self_trained(*given)

    monkeypatch.setattr(labelled, "self_trained", watched)
    with images.hold(DEFAULT_OWNER, images.share - 1):
        body = ok(ask(shared, FEATURES[:100] * (MAX_COLLECTION_IMAGES // 100), model=model, top_k=1))
    assert (body["method"], len(body["results"])) == ("self_training", MAX_COLLECTION_IMAGES)
    [(thread, held, size)] = seen
    assert thread.startswith("request")
    assert held == images.share
    assert size > 20 * MAX_COLLECTION_IMAGES * WIDTH
    assert (images.held, memory.held) == (0, 0)
