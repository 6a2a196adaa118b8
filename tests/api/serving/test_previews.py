"""Instant previews: a job's images as a classifier, against a plain reference, while the job exists."""

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import delete

from api.serving import previews
from api.serving.pool.cache import StillLoading
from api.serving.pool.served_model import ServedModel
from api.serving.previews import JobPreview, chosen_shots
from api.serving.service import Serving, look_up
from api.serving.types import WeightsKey
from clipcite.types.classify import Classification
from clipcite.types.images import Image
from core.clip.config import resolve_config
from core.clip.data.images import open_image
from core.clip.inference.classifier import Classifier
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone
from core.clip.prompts import class_prompts
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.ids import new_id
from core.store.db.tables import JobImage
from core.store.errors import BlobNotFound, JobNotFound, ShotsGone
from core.store.jobs import jobs, lifecycle
from tests.api import crafted
from tests.api.serving.world import World, ask, exactly, kinds, offsets
from tests.core.store.samples import create_job
from tests.service.running import wait_for

SHOTS = {"red fox": [1, 2, 3], "badger": [4, 5]}
NAMES = ["Badger", "a tree {with} braces", "red fox"]
CLASSES = [1, -1, 0]
IMAGES = [crafted.jpeg(10), crafted.png(2, 64, 48), crafted.jpeg(1)]


class PreviewWorld(World):
    """World with jobs, and other replicas. A finished model takes precedence over the preview."""

    def replica(self) -> Serving:
        return Serving(self.settings, self.database, self.blobs)

    def job(self, owner: str = DEFAULT_OWNER, **config: Any) -> str:
        """Create a queued job whose images, one of them a test image, are stored as POST /adapt does."""
        job_id = new_id("job")
        files = [("train", name, seed) for name, seeds in SHOTS.items() for seed in seeds]
        images = []
        for i, (split, name, seed) in enumerate([*files, ("test", "owl", 77)]):
            key = f"{jobs.blobs_of(job_id)}/{i:05d}"
            self.blobs.put(key, crafted.jpeg(seed))
            images.append(Image(key, name, split, f"{i}.jpg", sha256="0" * 64, bytes=1))
        counts = [{"name": name, "images": len(seeds), "test_images": 0} for name, seeds in SHOTS.items()]
        with self.database.write() as session:
            create_job(
                session,
                id=job_id,
                owner=owner,
                config=resolve_config(backbone=self.backbone.name, **config).model_dump(),
                classes=[*counts, {"name": "owl", "images": 0, "test_images": 1}],
                images=images,
            )
        return job_id

    def ask(self, model: str, serving: Serving | None = None, **options: Any) -> Classification:
        subject = look_up(self.database, model, owner=DEFAULT_OWNER)
        return ask(serving or self.serving, subject, options.pop("names", NAMES), IMAGES, **options)


@pytest.fixture
def world(backbone: Backbone, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PreviewWorld]:
    made = PreviewWorld(backbone, data, monkeypatch)
    yield made
    made.close()


def pixels(backbone: Backbone, contents: Sequence[bytes]) -> torch.Tensor:
    return torch.stack([backbone.preprocess(open_image(content)) for content in contents])


@pytest.mark.parametrize("balance", [0.35, 0.1, 0.0])
def test_the_preview_equals_the_plain_reference(world: PreviewWorld, balance: float) -> None:
    config = {"prompts": {"badger": ["a striped animal"]}, "templates": ["a drawing of a {}"]}
    answer = world.ask(world.job(**config), new_class_balance=balance)
    assert answer.preview
    assert answer.model.startswith("job_")
    assert (answer.backbone, answer.alpha) == (world.backbone.name, 0.0)
    assert kinds(answer) == {"Badger": "trained", "a tree {with} braces": "new", "red fox": "trained"}

    classifier = Classifier(world.backbone)
    seeds = [seed for of_class in SHOTS.values() for seed in of_class]
    shots = classifier.image_features(pixels(world.backbone, [crafted.jpeg(seed) for seed in seeds]))
    reference = PrototypeClassifier(shots, torch.tensor([0, 0, 0, 1, 1]))
    prompts = [class_prompts(name, config["templates"], config["prompts"]) for name in NAMES]
    features, texts = (
        classifier.image_features(pixels(world.backbone, IMAGES)),
        classifier.text_features(prompts),
    )
    rule, cosines = reference.rule(texts, CLASSES, balance), features @ texts.T
    probabilities = (world.backbone.logit_scale * rule.scores(features)).softmax(dim=-1)
    for row, result in enumerate(exactly(answer)):
        assert [p[1] for p in result] == sorted((p[1] for p in result), reverse=True)
        for name, probability, similarity in result:
            column = NAMES.index(name)
            assert probability == pytest.approx(float(probabilities[row, column]), abs=1e-4)
            assert similarity == pytest.approx(float(cosines[row, column]), abs=1e-5)
    assert offsets(answer) == pytest.approx(rule.offsets.tolist(), abs=1e-5)


def test_classes_with_training_images_are_the_trained_ones(world: PreviewWorld) -> None:
    """The stock model has the same features of the names, but no trained class."""
    names = [*NAMES, "owl"]
    for model, trained in ((world.job(), ["Badger", "red fox"]), ("stock", [])):
        found = kinds(world.ask(model, names=names))
        assert [name for name, kind in found.items() if kind == "trained"] == trained


def test_the_preview_serves_until_there_is_a_model(world: PreviewWorld) -> None:
    queued, failed, cancelled = world.job(), world.job(), world.job()
    with world.database.write() as session:
        lifecycle.request_cancel(session, cancelled, owner=DEFAULT_OWNER)
        claim = lifecycle.claim(session, failed, worker="w", lease_seconds=60)
    assert claim is not None
    assert world.ask(failed).preview  # Running.
    with world.database.write() as session:
        lifecycle.finish_failed(session, claim, code="out_of_memory", detail="Too little memory.")
    for job in (queued, failed, cancelled):
        assert world.ask(job).preview


def test_a_job_that_succeeded_answers_with_its_model(world: PreviewWorld) -> None:
    model = world.publish()
    with world.database.read() as session:
        page, _ = jobs.list_page(session, owner=DEFAULT_OWNER, limit=1)
    answer = world.ask(page[0].id, alpha=0.7)
    assert not answer.preview
    assert (answer.model, answer.alpha) == (model, 0.7)
    assert exactly(answer) == exactly(world.ask(model, alpha=0.7))


def test_the_preview_is_deleted_with_its_job(world: PreviewWorld) -> None:
    job = world.job()
    world.ask(job)
    with world.database.write() as session:
        lifecycle.delete(session, job, owner=DEFAULT_OWNER)
    world.serving.previews.forget(job)
    with pytest.raises(JobNotFound):
        world.ask(job)


def test_without_images_there_is_no_preview(world: PreviewWorld) -> None:
    """Retention has deleted them."""
    job = world.job()
    with world.database.write() as session:
        session.execute(delete(JobImage).where(JobImage.job_id == job))
    for _ in range(2):
        with pytest.raises(ShotsGone):
            world.ask(job)


def test_images_are_read_once(world: PreviewWorld) -> None:
    job = world.job()
    first = world.ask(job)
    shutil.rmtree(world.settings.data / "blobs" / "jobs")
    assert exactly(world.ask(job)) == exactly(first)
    with pytest.raises(BlobNotFound):
        world.ask(world_job_without_files(world))


def test_the_preview_is_built_before_the_first_request(
    world: PreviewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, built = world.job(), list[int]()
    features = previews.Previews._features

    def counted(self: previews.Previews, stock: ServedModel, shots: Sequence[JobImage]) -> torch.Tensor:
        built.append(len(shots))
        return features(self, stock, shots)

    monkeypatch.setattr(previews.Previews, "_features", counted)
    with world.database.read() as session:
        coming = JobPreview.of(jobs.get(session, job, owner=DEFAULT_OWNER))
    # The backbone is not in memory, and nothing is loaded for the preview.
    world.serving.prepare_preview(coming)
    assert not world.serving.previews._kept
    size = resolve_config(backbone=world.backbone.name).image_size
    stock = WeightsKey(world.backbone.name, size)
    with world.serving.engine.pool.acquire(stock, 0, wait_seconds=None):
        world.serving.prepare_preview(replace(coming, backbone="another"))
        assert not world.serving.previews._kept
        world.serving.prepare_preview(replace(coming, image_size=size))
    wait_for(lambda: built)
    assert world.ask(job).preview
    assert built == [5]
    lost = world_job_without_files(world)
    world.serving.prepare_preview(replace(coming, id=lost, image_size=size))  # The upload reports no error.


def test_a_partial_preview_answers(world: PreviewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.job()
    replica = world.replica()
    expected = world.ask(job, replica)
    replica.close()

    more = threading.Event()
    features, calls = previews.Previews._features, iter(range(99))

    def one_by_one(self: previews.Previews, *given: Any) -> torch.Tensor:
        assert next(calls) < 2 or more.wait(60)
        return features(self, *given)

    monkeypatch.setattr(previews.Previews, "_features", one_by_one)
    monkeypatch.setattr(previews, "TURN_SECONDS", 0)
    monkeypatch.setattr(previews, "BATCH_SIZE", 1)
    first = world.ask(job)
    (warning,) = first.warnings
    assert "still processing 3 of" in warning.detail  # of five; each class has one
    more.set()
    wait_for(lambda: not world.ask(job).warnings)
    last = world.ask(job)

    def probabilities(answer: Classification) -> torch.Tensor:
        return torch.tensor([[p[1] for p in result] for result in exactly(answer)])

    torch.testing.assert_close(probabilities(last), probabilities(expected), rtol=0, atol=1e-5)
    assert (probabilities(first) - probabilities(last)).abs().max() > 1e-3


def test_a_preview_goes_on_after_an_error(world: PreviewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage fails once a partial preview can be used. The next request tries again."""
    job, errors = world.job(), [None, None, OSError("a read error")]
    features = previews.Previews._features

    def failing(self: previews.Previews, *given: Any) -> torch.Tensor:
        if errors and (error := errors.pop(0)):
            raise error
        return features(self, *given)

    monkeypatch.setattr(previews.Previews, "_features", failing)
    monkeypatch.setattr(previews, "TURN_SECONDS", 0)
    monkeypatch.setattr(previews, "BATCH_SIZE", 1)
    world.ask(job)
    wait_for(lambda: not errors)
    wait_for(lambda: not world.ask(job).warnings, seconds=10)


def test_slow_previews_leave_threads_for_others(world: PreviewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serving.decoding.start()
    slow = {world.job() for _ in range(previews.THREADS + 1)}
    begun: set[str] = set()
    go_on = threading.Event()
    features = previews.Previews._features

    def slowly(self: previews.Previews, stock: ServedModel, shots: Sequence[JobImage]) -> torch.Tensor:
        (job,) = {shot.job_id for shot in shots}
        if job in slow:
            assert job not in begun or go_on.wait(60)
            begun.add(job)
            time.sleep(0.1)
        return features(self, stock, shots)

    monkeypatch.setattr(previews.Previews, "_features", slowly)
    monkeypatch.setattr(previews, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(previews, "BATCH_SIZE", 1)
    with world.database.read() as session:
        coming = [JobPreview.of(jobs.get(session, job, owner=DEFAULT_OWNER)) for job in slow]
    for preview in coming:
        world.serving.previews.prepare(preview)
    assert world.ask(world.job()).results
    assert not go_on.is_set()
    go_on.set()
    for job in slow:
        assert world.ask(job).results


def world_job_without_files(world: PreviewWorld) -> str:
    job = world.job()
    world.blobs.delete_prefix(jobs.blobs_of(job))
    return job


def test_waiting_for_a_preview_has_the_same_limit_as_for_a_model(world: PreviewWorld) -> None:
    world.serving.engine.wait_seconds = 0.001
    job = world.job()
    with pytest.raises(StillLoading):
        world.ask(job)
    world.serving.engine.wait_seconds = 60
    assert world.ask(job).preview


def test_many_images_are_sampled_per_class() -> None:
    images = [
        JobImage(
            position=i,
            split="test" if i % 10 == 9 else "train",
            class_name="rare" if i % 50 == 0 else "usual",
        )
        for i in range(200)
    ]
    chosen = chosen_shots(images, 20)
    assert len(chosen) == 20
    assert [p.position for p in chosen if p.class_name == "rare"] == [0, 50, 100, 150]
    assert all(p.split == "train" for p in chosen)
    each = [JobImage(position=i, split="train", class_name=str(i)) for i in range(30)]
    assert len(chosen_shots(each, 20)) == 30
