"""The sort of a pile by its features: places, questions, and what is measured."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from api.piles.sorting import sort
from api.serving.service import look_up
from clipcite.types.classify import Options
from clipcite.types.piles import MIN_DRAWN, NOT_MEASURED
from core.clip.inference.sort import draw_order, share_interval
from core.clip.models.backbone import Backbone
from core.clip.weights.support_set import SupportSet
from core.store.accounts.owners import DEFAULT_OWNER
from tests.api.service import Service
from tests.api.serving.adapted import CLASSES, publish_model
from tests.core.clip.inference.made_piles import Said, say

WIDTH, COUNT = 32, 120
KINDS = F.normalize(torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
"""Two trained classes, and two kinds of strangers."""
TRUTH = np.arange(COUNT) % 4


def around(kinds: np.ndarray, seed: int) -> torch.Tensor:
    noise = torch.randn(len(kinds), WIDTH, generator=torch.Generator().manual_seed(seed))
    return F.normalize(KINDS[torch.from_numpy(kinds)] + 0.8 * noise / WIDTH**0.5, dim=-1)


ROWS = around(TRUTH, seed=2).numpy().astype(np.float16)
ORDER = draw_order("pil_1", COUNT)


@pytest.fixture(scope="module")
def model(shared: Service, backbone: Backbone) -> str:
    labels = np.arange(12) % 2
    support = SupportSet(around(labels, seed=1).expand(3, -1, -1), torch.from_numpy(labels))
    return publish_model(shared.database, shared.blobs, backbone, shots=support)


def sorted_by(service: Service, model: str, *given: list[Said], **fields: Any) -> dict[str, Any]:
    """Sort the pile. Return the response's fields, with the images' places under `places`."""
    names, rows = fields.pop("names", None), fields.pop("rows", ROWS)
    found = sort(
        service.app.state.serving,
        rows,
        [answer for act in given for answer in act],
        Options(class_names=names, model=model),
        look_up(service.database, model, owner=DEFAULT_OWNER),
        owner=DEFAULT_OWNER,
        take=lambda more: None,
        seed="pil_1",
        **fields,
    )
    places = [None if image.something_else else image.class_name for image in found["images"]]
    return {**found, "places": np.array(places, object)}


def truly(rows: Any, how: str) -> list[Said]:
    return [answer for at in rows for answer in say([at], CLASSES[TRUTH[at]] if TRUTH[at] < 2 else None, how)]


def test_places(shared: Service, model: str) -> None:
    plain = sorted_by(shared, model)
    strangers = TRUTH >= 2
    assert [image.position for image in plain["images"]] == [*range(COUNT)]
    assert (plain["places"] == None)[strangers].mean() > 0.9  # noqa: E711
    assert Counter(plain["places"][TRUTH == 0]).most_common(1)[0][0] == CLASSES[0]
    for image in plain["images"]:
        assert (image.score < 0) == image.something_else
        assert (image.probability is None) == image.something_else
    said = sorted_by(shared, model, say([0], CLASSES[1], "moved"), say([1], None, "moved"))
    assert said["places"][[0, 1]].tolist() == [CLASSES[1], None]
    assert [said["images"][at].probability for at in (0, 1)] == [None, None]
    assert said["images"][4].probability is not None


def test_only_marked_images_are_something_else_if_that_is_wanted(shared: Service, model: str) -> None:
    plain = sorted_by(shared, model, something_else=False)
    assert None not in plain["places"]
    strangers = np.flatnonzero(TRUTH >= 2)
    said = sorted_by(shared, model, truly([0, strangers[0]], "moved"), something_else=False)
    assert np.flatnonzero(said["places"] == None).tolist() == [strangers[0]]  # noqa: E711


def test_names_of_answers_join_those_of_the_pile(shared: Service, model: str) -> None:
    kinds = np.flatnonzero(TRUTH == 2)
    found = sorted_by(shared, model, say(kinds[:5], "oak"), say([0], CLASSES[0].upper()))
    assert [each.name for each in found["class_names"]] == [*CLASSES, "oak"]
    assert Counter(found["places"][kinds[5:]]).most_common(1)[0][0] == "oak"
    own = sorted_by(shared, model, say([0], "elm"), names=["oak", CLASSES[0]])
    assert [each.name for each in own["class_names"]] == ["oak", CLASSES[0], "elm"]


def test_without_class_names_there_are_groups_alone(shared: Service) -> None:
    found = sorted_by(shared, "stock", say([3], None, "moved"), groups=50, ask=4)
    assert found.get("class_names", []) == []
    assert not any(image.class_name for image in found["images"])
    assert [image.position for image in found["images"] if image.something_else] == [3]
    assert len(found["groups"]) > 4
    assert [(each.position, each.drawn) for each in found["ask"]] == [
        (at, True) for at in ORDER.tolist() if at != 3
    ][:4]
    assert "sentence" not in found


def test_a_group_shows_its_most_typical_images(shared: Service, model: str) -> None:
    found = sorted_by(shared, model, say([0], None, "moved"), groups=50)["groups"]
    assert {group.kind for group in found} == {"alike"}
    large = [group for group in found if len(group.members) > 9]
    assert large
    assert all(group.shown == group.members[:9] for group in found)
    seen = [at for group in found for at in group.shown]
    said = say([0], None, "moved"), say(seen, None, said="skip")
    again = sorted_by(shared, model, *said, groups=50)["groups"]
    assert again
    assert not set(seen) & {at for group in again for at in group.members}


def test_the_images_least_like_any_class_are_asked_about_once(shared: Service, model: str) -> None:
    with_model = sorted_by(shared, model, groups=3)["groups"]
    assert [group.kind for group in with_model] == ["least_like", "alike", "alike"]
    shown = with_model[0].shown
    assert (TRUTH[shown] >= 2).all()
    answered = sorted_by(shared, model, say(shown, None, said="not_class"), groups=3)["groups"]
    assert {group.kind for group in answered} == {"alike"}
    acts = [say([at], CLASSES[TRUTH[at] % 2]) for at in range(10)]
    early = sorted_by(shared, "stock", *acts[:9], groups=3, names=[*CLASSES])["groups"]
    assert "least_like" not in {group.kind for group in early}
    late = sorted_by(shared, "stock", *acts, groups=3, names=[*CLASSES])["groups"]
    assert [group.kind for group in late][:1] == ["least_like"]


def test_one_of_five_images_is_drawn_and_something_else_has_its_share(shared: Service, model: str) -> None:
    given = [truly(np.flatnonzero(TRUTH == 2)[:5], "chosen"), say(ORDER[:1], None, said="skip", how="drawn")]
    found = sorted_by(shared, model, *given, ask=20)
    asked = found["ask"]
    positions = [each.position for each in asked]
    done = {int(each.position) for act in given for each in act}
    assert len(set(positions)) == 20
    assert not done & set(positions)
    drawn = [each.position for each in asked if each.drawn]
    assert [number for number, each in enumerate(asked) if each.drawn] == [4, 9, 14, 19]
    assert drawn == [at for at in ORDER.tolist() if at not in done][:4]
    rest = [at for at in range(COUNT) if at not in done and at not in drawn]
    part = np.mean([found["places"][at] is None for at in rest])
    chosen = [at for at in positions if at not in drawn]
    assert sum(found["places"][at] is None for at in chosen) == round(16 * part)
    assert 2 < 16 * part < 14
    every = sorted_by(shared, model, *given, ask=1000)["ask"]
    assert sorted(each.position for each in every) == sorted({*range(COUNT)} - done)


def test_a_check_draws_all_images_that_nobody_was_asked_about_alone(shared: Service, model: str) -> None:
    alone = ORDER[[0, 2, 5]]
    given = truly(ORDER[:8], "group"), truly(alone[:2], "chosen"), truly(alone[2:], "moved")
    found = sorted_by(shared, model, *given, ask=7, draw=20)
    assert all(each.drawn for each in found["ask"])
    assert [each.position for each in found["ask"]] == [at for at in ORDER.tolist() if at not in alone][:20]
    assert found["unchecked"] == COUNT - 3
    drawn = [each.position for each in sorted_by(shared, model, *given, ask=10)["ask"] if each.drawn]
    assert drawn == ORDER[[1, 3]].tolist()


def test_what_is_measured_and_how_it_is_said(shared: Service, model: str) -> None:
    few = sorted_by(
        shared, model, truly(ORDER[: MIN_DRAWN - 1], "drawn"), truly(ORDER[MIN_DRAWN:30], "drawn")
    )
    assert (few["measured"], few["sentence"]) == (None, NOT_MEASURED)
    wrong = np.array([at for at in ORDER[:24] if TRUTH[at] < 2][:6])
    others = np.setdiff1d(ORDER[:24], wrong)
    lies = [answer for at in wrong for answer in say([at], CLASSES[1 - TRUTH[at]], "drawn")]
    found = sorted_by(shared, model, truly(others, "drawn"), lies)
    measured = found["measured"]
    assert (measured.drawn, measured.total) == (24, COUNT)
    assert measured.right <= 18  # the person's answers to six are not those of the sort
    put = (24 - measured.right) / COUNT  # a person has put these in their place
    assert measured.accuracy == pytest.approx(measured.right / 24 + put)
    low, high = share_interval(measured.right, 24, COUNT)
    assert measured.interval == pytest.approx((low + put, high + put))
    assert measured.interval[1] <= 1
    assert found["sentence"] == (
        f"{measured.accuracy:.0%} are in the right place (likely {100 * (low + put):.0f} to "
        f"{100 * (high + put):.0f}), measured on 24 photos drawn at random."
    )
    every = sorted_by(shared, model, truly(ORDER, "drawn"))
    assert (every["measured"].accuracy, every["measured"].interval) == (1, pytest.approx((1, 1)))
    assert every["sentence"] == "Every photo is labelled."


def test_a_check_is_offered_only_while_it_can_ask(shared: Service, model: str) -> None:
    labels = truly(ORDER[: MIN_DRAWN - 1], "drawn")
    skip = say(ORDER[MIN_DRAWN:], None, said="skip", how="drawn")
    most = sorted_by(shared, model, labels, skip, draw=20)
    assert (len(most["ask"]), most["measured"], most["sentence"]) == (1, None, NOT_MEASURED)
    rest = sorted_by(
        shared, model, labels, say(ORDER[MIN_DRAWN - 1 :], None, said="skip", how="drawn"), draw=20
    )
    assert (rest["ask"], rest["unchecked"], rest["measured"]) == ([], 0, None)
    assert rest["sentence"] == "Not measured: too many photos were skipped."


def test_the_next_sort_knows_the_neighbours(shared: Service, model: str) -> None:
    kept = shared.app.state.serving.neighbours
    rows = ROWS[:90]
    before = len(kept)
    first = sorted_by(shared, model, rows=rows)
    again = sorted_by(shared, model, rows=rows)
    assert len(kept) == before + 1
    assert [image.score for image in first["images"]] == [image.score for image in again["images"]]
    memory = shared.app.state.memory
    assert memory.held == 0
