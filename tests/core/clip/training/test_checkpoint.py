"""An interrupted training resumes bit for bit as if it had never stopped."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.clip.config import AdaptConfig
from core.clip.errors import Cancelled
from core.clip.models.backbone import Backbone
from core.clip.training.checkpoint import CHECKPOINT_FORMAT, Checkpoints, TrainingState
from core.clip.training.checkpoint_files import epoch_of, newest_first
from core.clip.training.progress import StepProgress
from core.clip.training.trainer import fine_tune
from tests.core.clip.recorder import Recorder, same_bits

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 0, 0]
# Several prompts per class, so that their random choice is tested too.
TEXTS = [["a cat", "a kitten", "a tabby"], ["a dog", "a puppy"], ["a tree"]]
STEPS = 3
"""Steps per epoch: 10 images in batches of at most 4."""


class CheckpointRecorder(Recorder):
    """Recorder that also keeps checkpoint notifications."""

    def __init__(self, cancel_after: int | None = None) -> None:
        super().__init__(cancel_after)
        self.written: list[int] = []
        self.resumed_at: list[int] = []

    def checkpoint(self, epoch: int) -> None:
        self.written.append(epoch)

    def resumed(self, epoch: int) -> None:
        self.resumed_at.append(epoch)


@pytest.fixture
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 36, 40), generator=generator, dtype=torch.uint8) for _ in LABELS]


def train(
    backbone: Backbone,
    images: list[Tensor],
    folder: Path | None,
    reporter: Recorder | None = None,
    *,
    seconds: float = 0,
    **given: Any,
) -> dict[str, Tensor]:
    settings: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "classifier_learning_rate": 1e-2,
        "precision": "fp32",
        "seed": 5,
        **given,
    }
    checkpoints = None if folder is None else Checkpoints(folder, seconds=seconds)
    return fine_tune(
        backbone,
        images,
        LABELS,
        TEXTS,
        AdaptConfig(**settings),
        reporter or CheckpointRecorder(),
        checkpoints=checkpoints,
    )


def cut_off(
    backbone: Backbone, images: list[Tensor], folder: Path, *, after: int, **given: Any
) -> CheckpointRecorder:
    """Train until this attempt has done `after` steps, then cancel."""
    told = CheckpointRecorder(cancel_after=after)
    with pytest.raises(Cancelled):
        train(backbone, images, folder, told, **given)
    return told


def epochs_in(folder: Path) -> list[int | None]:
    return [epoch_of(path.name) for path in newest_first(folder)]


@pytest.mark.parametrize(
    "given",
    [{}, {"text_learning_rate": 0.0}, {"micro_batch_size": 2}],
    ids=["plain", "text tower frozen", "in parts"],
)
def test_cut_off_three_times_is_the_same_training(
    tiny: Backbone, images: list[Tensor], tmp_path: Path, given: dict[str, Any]
) -> None:
    whole, steps = Recorder(), []
    reference = train(tiny, images, None, whole, **given)
    for after, resumed_at in ((STEPS + 1, []), (STEPS, [1]), (STEPS + 2, [2])):
        told = cut_off(tiny, images, tmp_path, after=after, **given)
        assert told.resumed_at == resumed_at
        steps += told.steps
    last = CheckpointRecorder()
    resumed = train(tiny, images, tmp_path, last, **given)
    assert last.resumed_at == [3]
    assert last.warnings == []
    assert same_bits(resumed, reference)
    # The losses of all steps equal those of the uninterrupted training, also for repeated steps.
    losses = {s.step: s.loss["total"] for s in whole.steps}
    steps += last.steps
    assert {s.step for s in steps} == losses.keys()
    assert all(s.loss["total"] == losses[s.step] for s in steps)
    assert [s.step for s in last.steps] == list(range(3 * STEPS + 1, 4 * STEPS + 1))
    assert {s.epoch for s in last.steps} == {4}


def test_a_finished_training_takes_no_more_steps(
    tiny: Backbone, images: list[Tensor], tmp_path: Path
) -> None:
    """The evaluation after the training may be interrupted as well."""
    first, again = CheckpointRecorder(), CheckpointRecorder()
    done = train(tiny, images, tmp_path, first)
    assert first.written == [1, 2, 3, 4]
    assert epochs_in(tmp_path) == [4, 3]
    assert same_bits(train(tiny, images, tmp_path, again), done)
    assert again.resumed_at == [4]
    assert again.steps == []


def test_partial_files_of_a_killed_process_are_ignored(
    tiny: Backbone, images: list[Tensor], tmp_path: Path
) -> None:
    cut_off(tiny, images, tmp_path, after=STEPS)
    whole = newest_first(tmp_path)[0]
    (tmp_path / "part").write_bytes(whole.read_bytes()[:1000])
    told = CheckpointRecorder()
    train(tiny, images, tmp_path, told)
    assert told.resumed_at == [1]
    assert told.warnings == []


@pytest.mark.parametrize("other", ["backbone", "version"])
def test_a_checkpoint_of_another_backbone_or_version_is_not_used(
    tiny: Backbone, images: list[Tensor], tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(tiny, images, tmp_path, after=STEPS)
    if other == "version":
        monkeypatch.setattr("core.clip.training.checkpoint.CHECKPOINT_FORMAT", CHECKPOINT_FORMAT + 1)
    else:
        tiny = replace(tiny, sha256="0" * 64)
    told = CheckpointRecorder()
    result = train(tiny, images, tmp_path, told)
    assert told.resumed_at == []
    assert [code for code, _ in told.warnings] == ["checkpoint_outdated"]
    assert same_bits(result, train(tiny, images, None))


def test_only_a_usable_checkpoint_decides_the_precision(
    tiny: Backbone, images: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, seconds=0)
    assert checkpoints.precision() is None
    cut_off(tiny, images, tmp_path, after=STEPS)
    assert checkpoints.precision() == "fp32"
    monkeypatch.setattr("core.clip.training.checkpoint.CHECKPOINT_FORMAT", CHECKPOINT_FORMAT + 1)
    assert checkpoints.precision() is None


def test_a_short_training_writes_no_checkpoint(tiny: Backbone, images: list[Tensor], tmp_path: Path) -> None:
    told = CheckpointRecorder()
    train(tiny, images, tmp_path, told, seconds=3600)
    assert told.written == []
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_is_reported_and_does_not_stop_the_training(
    tiny: Backbone, images: list[Tensor], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"

    class Remover(CheckpointRecorder):
        def step(self, progress: StepProgress) -> None:
            super().step(progress)
            shutil.rmtree(folder, ignore_errors=True)

    remover = Remover()
    assert same_bits(train(tiny, images, folder, remover), train(tiny, images, None))
    assert {code for code, _ in remover.warnings} == {"checkpoint_not_written"}
    assert remover.written == []


# --- the state itself


def a_training(seed: int, *, scaled: bool = False) -> tuple[nn.Conv2d, TrainingState]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Channels-last memory, which the optimiser's moments must then share: it reads both in one pass.
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled, growth_interval=2)
    generators = {"noise": torch.Generator().manual_seed(seed)}
    return network, TrainingState(dict(network.named_parameters()), optimizer, scaler, generators)


def steps(network: nn.Conv2d, state: TrainingState, count: int) -> None:
    for _ in range(count):
        x = torch.randn((2, 3, 8, 8), generator=state.generators["noise"])
        state.optimizer.zero_grad()
        state.scaler.scale(F.relu(network(x)).square().mean()).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()


@pytest.mark.parametrize("scaled", [False, True])
def test_a_loaded_state_goes_on_as_the_one_that_was_saved(scaled: bool) -> None:
    network, state = a_training(0, scaled=scaled)
    steps(network, state, 3)
    tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
    scaler = copy.deepcopy(state.scaler.state_dict())
    steps(network, state, 3)
    other, fresh = a_training(1, scaled=scaled)
    fresh.load(tensors, scaler)
    steps(other, fresh, 3)
    assert same_bits(fresh.tensors(), state.tensors())
    assert fresh.scaler.state_dict() == state.scaler.state_dict()
    moment = fresh.optimizer.state[other.weight]["exp_avg"]
    assert moment.stride() == other.weight.stride() != moment.contiguous().stride()
