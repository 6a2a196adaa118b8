import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.accuracy.harness import Trial, task_of
from benchmarks.data.dataset import BadDataSet, DataSet, Example
from benchmarks.data.few_shot import base_classes, draw_shots, published_shots, restrict
from benchmarks.data.load import load
from core.clip.models.backbone import Backbone
from tests.benchmarks.data.tree import write_split


def images(root: str = "/data", classes: int = 3, each: int = 20) -> list[Example]:
    return [Example(Path(root) / f"c{c}" / f"{i}.jpg", c) for c in range(classes) for i in range(each)]


def paths(examples: list[Example]) -> list[str]:
    return [f"{e.path.parent.name}/{e.path.name}" for e in examples]


def test_split_0_is_the_papers_first_half_rounded_up_and_split_1_the_last_half() -> None:
    for classes, base in ((47, 24), (37, 19), (397, 199), (10, 5)):  # DTD, OxfordPets, SUN397, EuroSAT
        assert base_classes(0, classes) == list(range(base))
        assert base_classes(1, classes) == list(range(classes - base, classes))


@given(split=st.integers(0, 50), classes=st.integers(2, 60), data=st.data())
def test_fewer_classes_are_among_more(split: int, classes: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, classes - 1))
    base = base_classes(split, classes, count=count)
    assert len(base) == count
    assert set(base) <= set(base_classes(split, classes, count=classes - 1))
    for wrong in (0, classes):
        with pytest.raises(ValueError, match=f"Use 1 to {classes - 1}"):
            base_classes(split, classes, count=wrong)


@given(shots=st.integers(1, 24), more=st.integers(1, 8), seed=st.integers(0, 1_000))
def test_draws_of_one_seed_nest(shots: int, more: int, seed: int) -> None:
    for label in range(3):
        few, many = (draw_shots(images(), [label], n, seed) for n in (shots, shots + more))
        assert many[: len(few)] == few


def test_the_seed_draws_n_shots_per_class_without_replacement() -> None:
    shots = draw_shots(images(), [2, 0], 4, seed=1)
    assert [e.label for e in shots] == [2] * 4 + [0] * 4
    assert len(set(shots)) == 8
    assert len(draw_shots(images(each=3), [1], 16, seed=1)) == 3  # a class with fewer images gives all
    draws = [paths(draw_shots(images(), [0], 4, seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_draw_depends_on_nothing_but_its_class() -> None:
    alone = draw_shots(images(), [1], 4, seed=1)
    assert draw_shots(images(), [0, 1, 2], 4, seed=1)[4:8] == alone
    assert draw_shots(images()[::-1], [1], 4, seed=1) == alone
    elsewhere = images("/mnt/other")
    assert paths(draw_shots(elsewhere, [1], 4, seed=1)) == paths(alone)
    relabelled = [Example(e.path, e.label + 5) for e in images()]  # As if five more classes came before.
    assert paths(draw_shots(relabelled, [6], 4, seed=1)) == paths(alone)


def test_a_class_without_training_images_is_not_a_base_class() -> None:
    with pytest.raises(BadDataSet, match="Class 3 has no training images, so it can only be a new class"):
        draw_shots(images(), [0, 3], 4, seed=1)


def test_restrict_keeps_some_classes_in_the_given_order() -> None:
    data = DataSet("numbers", ("zero", "one", "two"), ("{}",), tuple(images()), tuple(images(each=1)))
    some = restrict(data, [2, 0])
    assert some.class_names == ("two", "zero")
    assert {(e.path.parent.name, e.label) for e in some.train} == {("c2", 0), ("c0", 1)}
    assert [(e.path.parent.name, e.label) for e in some.test] == [("c0", 1), ("c2", 0)]
    assert (some.name, some.templates) == (data.name, data.templates)
    assert restrict(data, range(3)) == data


@pytest.fixture
def drawn_by_2sfs(tmp_path: Path) -> DataSet:
    """Return a small data set with a published draw: one shot of each class, seed 1."""
    rows = [
        (f"{name}/{i}.jpg", label, name) for label, name in enumerate(("banded", "dotted")) for i in range(3)
    ]
    write_split(
        tmp_path / "dtd", "split_zhou_DescribableTextures.json", "images", {"train": rows, "test": rows[:1]}
    )
    lists = tmp_path / "dtd" / "split_fewshot"
    lists.mkdir()
    lines = [
        {"_impath": f"images/{path}", "_label": label, "_classname": name}
        for path, label, name in (rows[5], rows[1])
    ]
    (lists / "shot_1-seed_1_train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load(tmp_path, "DTD")


def test_published_shots(drawn_by_2sfs: DataSet) -> None:
    shots = published_shots(drawn_by_2sfs, [0, 1], 1, seed=0)
    assert [(e.path.name, e.label) for e in shots] == [("2.jpg", 1), ("1.jpg", 0)]
    assert published_shots(drawn_by_2sfs, [0], 1, seed=0) == shots[1:]
    assert set(shots) <= set(drawn_by_2sfs.train)
    (published,) = drawn_by_2sfs.folder.glob("split_fewshot/*")  # as published, below the root of all sets
    published.write_text(published.read_text().replace('"images/', '"dtd/images/'))
    assert published_shots(drawn_by_2sfs, [0, 1], 1, seed=0) == shots


def test_the_harness_takes_the_published_shots(drawn_by_2sfs: DataSet, backbone: Backbone) -> None:
    trial = Trial(drawn_by_2sfs, (1,), 1, 0, 0, (drawn_by_2sfs,), draws="2sfs")
    (shot,) = published_shots(drawn_by_2sfs, [1], 1, seed=0)
    Image.new("RGB", (300, 200), "orange").save(shot.path)
    tasks = [task_of(replace(trial, exact_pixels=exact), backbone) for exact in (False, True)]
    sides = 2 * backbone.image_size, 3 * backbone.image_size
    assert [task.tensors[0].shape for task in tasks] == [(3, *sides), (3, 200, 300)]
    assert trial.key("stock") != replace(trial, draws="hash").key("stock")
