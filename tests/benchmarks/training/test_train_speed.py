"""The two training loops do the same work."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.training.loops import Clock, Job, read, recipe_of, train_product
from clipcite.types.images import Image as LabelledImage
from core.clip.config import AdaptConfig
from core.clip.data.loader import crop_batches, epoch_batches
from core.clip.data.transforms import to_pixels
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.ensemble import interpolate
from examples import clip_cite

CLASSES = ("cat", "dog", "tree")


@pytest.fixture
def job(backbone: Backbone, tmp_path: Path) -> Job:
    """Return a job with twelve images in three batches."""
    noise = np.random.default_rng(0)
    shots = []
    for i in range(12):
        pixels = noise.integers(0, 256, (backbone.image_size, backbone.image_size, 3), dtype=np.uint8)
        pixels[:, :, i % 3] //= 4
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        shots.append(LabelledImage(tmp_path / f"{i}.png", CLASSES[i % 3]))
    config = AdaptConfig(
        epochs=4,
        batch_size=5,
        learning_rate=1e-3,
        classifier_learning_rate=1e-2,
        weight_decay=0.1,
        crop_scale=0.5,
        precision="fp32",
    )
    return Job(backbone.name, config, tuple(shots), "cpu", None, tmp_path)


class ProductBatches:
    """The crops of the product in its order, as batches of the standalone script."""

    def __init__(self, images: list[Tensor], job: Job, backbone: Backbone) -> None:
        self.per_epoch = math.ceil(len(images) / job.config.batch_size)
        order, cropping = (torch.Generator().manual_seed(job.config.seed + i) for i in (0, 1))
        # Each step also draws one prompt per class from this generator, which has no effect on one template.
        plan = epoch_batches(len(images), self.per_epoch, job.config.epochs, order)
        self.batches = [
            (to_pixels(crops, backbone.mean, backbone.std), torch.tensor(job.labels)[indices])
            for indices, crops in crop_batches(
                images, plan, backbone.image_size, job.config.crop_scale, cropping
            )
        ]

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, self.batches = self.batches[: self.per_epoch], self.batches[self.per_epoch :]
        return iter(epoch)


@pytest.mark.parametrize("text_learning_rate", [None, 1e-4, 0.0])
def test_the_script_reaches_the_same_weights_from_the_same_crops(
    backbone: Backbone, job: Job, text_learning_rate: float | None
) -> None:
    job = replace(job, config=job.config.model_copy(update={"text_learning_rate": text_learning_rate}))
    product, plain = Clock(), Clock()
    ours = train_product(job, backbone, product)
    batches = ProductBatches(read(job, backbone.image_size), job, backbone)
    assert [len(y) for _, y in batches.batches[:3]] == [4, 4, 4]
    theirs = clip_cite.train(
        open_clip.create_model(backbone.name),
        open_clip.get_tokenizer(backbone.name),
        batches,
        CLASSES,
        recipe_of(job.config),
        plain.tick,
    )
    np.testing.assert_allclose(product.losses, plain.losses, rtol=1e-3, atol=1e-5)
    assert apart(ours, theirs, backbone) <= 1e-3
    theta_0 = dict(tower_parameters(backbone.model))
    for alpha in (0.0, 0.5, 1.0):
        expected = interpolate(theta_0, ours, alpha)
        for name, tensor in clip_cite.ensemble(theta_0, ours, alpha).items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], backbone: Backbone) -> float:
    """Return the distance of two results, as a share of the way from θ_0.

    The bias of the keys is left out: no output depends on it, so its gradient is rounding noise, which AdamW
    scales up to whole steps.
    """
    before = dict(backbone.model.named_parameters())
    assert ours.keys() == theirs.keys()

    def square(name: str, difference: Tensor) -> float:
        if name.endswith("in_proj_bias"):
            difference = torch.cat([part for i, part in enumerate(difference.chunk(3)) if i != 1])
        return float(difference.square().sum())

    moved = sum(square(name, tensor - before[name]) for name, tensor in ours.items())
    return math.sqrt(sum(square(name, ours[name] - theirs[name]) for name in ours) / moved)


def test_batches_equal_the_products() -> None:
    batches = list(clip_cite.EqualBatches(70, 32))
    assert [len(batch) for batch in batches] == [24, 23, 23]
    assert sorted(i for batch in batches for i in batch) == list(range(70))
    assert len(clip_cite.EqualBatches(70, 32)) == 3


def test_a_shortened_job_has_full_batches_of_all_classes(job: Job) -> None:
    ordered = tuple(sorted(job.shots, key=lambda shot: shot.class_name))
    job = replace(job, shots=ordered, config=job.config.model_copy(update={"batch_size": 4}))
    assert job.steps == 12
    cut = job.cut(2)
    assert (cut.steps, len(cut.shots), cut.class_names) == (2, 8, CLASSES)
    assert job.cut(7).steps == 6
    assert job.cut(1_000) == job
