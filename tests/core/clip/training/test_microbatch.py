"""Training with too little memory: the batch is split further until it fits, with an equal result."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.clip.config import AdaptConfig
from core.clip.errors import Cancelled, OutOfMemory
from core.clip.models.backbone import Backbone
from core.clip.training.microbatch import MicroBatcher, reserve_gpu_memory
from core.clip.training.trainer import fine_tune
from tests.core.clip.recorder import Recorder, same_bits, watch

LABELS = [i % 3 for i in range(16)]
TEXTS = [["a cat"], ["a dog"], ["a tree"]]
TOO_MUCH = 2**56
"""More memory than any machine has (bytes)."""


def small(backbone: Backbone, most: int, *, backward: bool = False) -> Backbone:
    """Return a copy whose image tower runs out of memory above `most` images, in the forward or backward
    pass.
    """

    def allocate(given: Tensor) -> None:
        if len(given) > most:
            torch.empty(TOO_MUCH, dtype=torch.uint8, device=given.device)

    def on_the_way(_module: nn.Module, _given: object, output: Tensor) -> None:
        if not backward:
            allocate(output)
        elif output.requires_grad:
            output.register_hook(allocate)  # type: ignore[no-untyped-call]

    copied = watch(backbone).backbone
    copied.model.get_submodule("visual").register_forward_hook(on_the_way)
    return copied


def train(backbone: Backbone, reporter: Recorder, **given: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, 36, 40), generator=generator, dtype=torch.uint8) for _ in LABELS]
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "precision": "fp32"}
    return fine_tune(backbone, images, LABELS, TEXTS, AdaptConfig(**{**settings, **given}), reporter)


@pytest.mark.parametrize("backward", [False, True], ids=["on the way there", "on the way back"])
def test_the_batch_is_split_until_it_fits(tiny: Backbone, backward: bool) -> None:
    reporter, asked_for = Recorder(), Recorder()
    halved = train(small(tiny, 4, backward=backward), reporter)
    assert same_bits(halved, train(tiny, asked_for, micro_batch_size=4))  # No step was repeated.
    assert [s.loss["total"] for s in reporter.steps] == [s.loss["total"] for s in asked_for.steps]
    assert [code for code, _ in reporter.warnings] == ["micro_batch_reduced"] * 2
    assert "16 images" in reporter.warnings[0][1]
    assert "micro_batch_size 4," in reporter.warnings[1][1]


def test_when_a_single_image_does_not_fit_the_error_says_what_to_do(tiny: Backbone) -> None:
    reporter = Recorder()
    # Fusing the convolutions and the shots' features encode images without gradients.
    with pytest.raises(OutOfMemory, match=r"image_size or batch_size \(now 16\)") as failed:
        train(small(tiny, 0, backward=True), reporter)
    assert failed.value.code == "out_of_memory"
    assert len(reporter.warnings) == 4  # 8, 4, 2, 1
    assert reporter.steps == []


def test_other_errors_are_not_retried(tiny: Backbone) -> None:
    calls: list[int | None] = []

    def broken(micro_batch_size: int | None) -> None:
        calls.append(micro_batch_size)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        MicroBatcher(None, Recorder()).fit(broken, 16)
    assert calls == [None]


@pytest.mark.parametrize("part", ["forward", "teacher", "backward"])
def test_a_step_is_cancelled_between_its_micro_batches(tiny: Backbone, part: str) -> None:
    """A step of a large network takes minutes, in which the supervisor must hear from the training."""

    class Canceller(Recorder):
        checks = 0

        def cancelled(self) -> bool:
            self.checks += 1  # one before the step, then four in each part
            return self.checks == {"forward": 3, "teacher": 7, "backward": 11}[part]

    reporter = Canceller()
    with pytest.raises(Cancelled):
        train(tiny, reporter, micro_batch_size=4)
    assert reporter.steps == []


def test_a_cpu_has_no_memory_of_its_own() -> None:
    reserve_gpu_memory(torch.device("cpu"), 10**12)


def test_a_training_on_a_gpu_reserves_memory_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test checks the arguments passed to torch; their effect needs a GPU."""
    told: list[Any] = []
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=8_000)
    )
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: told.append(given))
    reserve_gpu_memory(torch.device("cuda:1"), 2_000)
    reserve_gpu_memory(torch.device("cuda:1"), 0)
    assert told == [(0.75, torch.device("cuda:1"))]
