"""How fast the product trains: against the loop as a researcher would write it, and against the machine.

    python -m benchmarks.training --data FOLDER --loops --backbones starter
    python -m benchmarks.training --data FOLDER --limits --backbones starter ViT-B-32 ViT-B-16
    python -m benchmarks.training --data FOLDER --memory
    python -m benchmarks.training --data FOLDER --service

FOLDER holds `train/CLASS/` and `test/CLASS/`. --loops runs whole jobs in turn, each in a fresh process:
benchmarks.training.researcher (fp32) and core.clip.training.trainer (fp32, and what `auto` takes here), on
the same pictures from the same files. --limits counts the floating-point operations of a step, measures the
machine's matrix products, and says where the time of a step goes. --memory is a table of images_at_once, and
--service the time from POST /adapt to the end of a job. Without any of them the first three are run.

What --loops measured is kept below --out: a run that was stopped goes on where it was, and a larger
--repetitions adds to it. Remove the folder, or name another, after a change of the code.

`starter` is trained by its whole recipe. Any other backbone is an architecture of open_clip (ViT-B-32,
ViT-B-16, …) with random weights, which cost the same time as trained ones, for a few steps.
"""

import argparse
import copy
import json
import math
import multiprocessing
import os
import re
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar, cast

import open_clip
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.accuracy.tables import Table
from benchmarks.accuracy.trials import fewer_tests
from benchmarks.data.dataset import DataSet, Example
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.machine import processor
from benchmarks.training import researcher
from clipcite import Client
from clipcite import Job as ServedJob
from core.clip.config import STARTER, AdaptConfig, Precision, resolve_config
from core.clip.data.images import ImageLimits, open_image
from core.clip.data.loader import read_images
from core.clip.data.transforms import random_resized_crop
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.models.features import build_zero_shot_classifier, encode_images, encode_tokens, image_features
from core.clip.models.starter import starter_folder
from core.clip.pipeline import Shot
from core.clip.prompts import class_texts
from core.clip.training.conv_bn import fuse_conv_bn
from core.clip.training.progress import Reporter, Silent, StepProgress
from core.clip.training.trainer import fine_tune, mixed_precision
from core.clip.weights.ensemble import interpolate
from core.settings import get_settings
from demo.pictures import Picture, Pictures
from demo.service import running_service
from worker.trainer.process import trainer_environment

PARTS = ("loops", "limits", "memory", "service")
IMAGES_AT_ONCE = (32, 16, 8, 4, 1)
MAX_STEPS = 4
"""Of a backbone that is not the starter: a CPU takes minutes for a whole recipe of ViT-B/16."""
MEMORY_STEPS = 2
"""The second has AdamW's moments in memory beside its activations; the first has not."""
SERVICE_JOBS, SERVICE_CLASSES = 3, 10
"""Jobs of each kind."""

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One training, for a process that has nothing yet."""

    backbone: str
    """As load_backbone takes it."""
    config: AdaptConfig
    shots: tuple[Shot, ...]
    device: str
    threads: int | None
    cache: Path
    tests: tuple[Shot, ...] = ()
    """None where accuracy would mean nothing: with random weights."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(shot.class_name for shot in self.shots))

    @property
    def labels(self) -> list[int]:
        label = {name: i for i, name in enumerate(self.class_names)}
        return [label[shot.class_name] for shot in self.shots]

    @property
    def steps(self) -> int:
        return self.config.epochs * math.ceil(len(self.shots) / self.config.batch_size)

    def load(self) -> Backbone:
        if self.threads:
            torch.set_num_threads(self.threads)
        size, device = self.config.image_size, self.device
        return load_backbone(self.backbone, cache=self.cache, image_size=size, device=device)

    def cut(self, steps: int) -> "Job":
        """At most so many steps, with whole epochs and full batches."""
        per_epoch = math.ceil(len(self.shots) / self.config.batch_size)
        kept, n = min(len(self.shots), steps * self.config.batch_size), len(self.shots)
        shots = tuple(self.shots[i * n // kept] for i in range(kept))  # of all classes alike
        epochs = min(self.config.epochs, max(1, steps // per_epoch))
        return replace(self, shots=shots, config=replace(self.config, epochs=epochs))


@dataclass(frozen=True)
class Measured:
    """One whole job."""

    seconds: float
    """From the files to θ_1, decoding included; imports and the loading of the network are not."""
    images_per_second: float
    """After the first step, which sets up memory and kernels."""
    seconds_a_step: float
    """Likewise."""
    peak_bytes: int
    """Of the process (of the GPU's memory, on a GPU) while it trained."""
    loaded_bytes: int
    """The same just before: the libraries and one copy of the network."""
    last_loss: float
    accuracy: float | None
    """Of θ(α) on the test pictures, in fp32, by the same code for both."""


# Whole jobs, each in a process of its own.


def in_fresh_process(function: Callable[..., T], *arguments: object) -> T:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_fresh_trainer(function: Callable[..., T], *arguments: object) -> T:
    """With its memory managed as the worker's trainers have it."""
    before = dict(os.environ)
    os.environ |= trainer_environment(before)
    try:
        return in_fresh_process(function, *arguments)
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def train_product(job: Job, backbone: Backbone, reporter: Reporter) -> dict[str, Tensor]:
    """As core.clip.pipeline reads and trains; what it does then is no part of the comparison."""
    texts = [class_texts(name, job.config.templates) for name in job.class_names]
    pictures = read(job, backbone.image_size)
    return fine_tune(backbone, pictures, job.labels, texts, job.config, reporter).theta_1


def read(job: Job, image_size: int) -> list[Tensor]:
    shortest_side = math.ceil(image_size / math.sqrt(max(job.config.crop_scale, 0.25)))
    return read_images([shot.source for shot in job.shots], ImageLimits(), shortest_side)


def run_product(job: Job) -> Measured:
    backbone, clock = job.load(), Clock()
    with measuring(backbone.device) as meter:
        theta_1 = train_product(job, backbone, clock)
    return _measured(job, backbone, meter, clock, theta_1)


def run_researcher(job: Job, workers: int) -> Measured:
    if job.threads:
        torch.set_num_threads(job.threads)
    name = f"local-dir:{starter_folder(job.cache)}" if job.backbone == STARTER else job.backbone
    model = open_clip.create_model(name, force_image_size=job.config.image_size, pretrained_text=False)
    model, tokenizer, clock = model.to(job.device), open_clip.get_tokenizer(name), Clock()
    with measuring(next(model.parameters()).device) as meter:
        theta_1 = researcher.train(
            model,
            tokenizer,
            [cast(Path, shot.source) for shot in job.shots],
            job.labels,
            job.class_names,
            job.config,
            workers=workers,
            on_step=clock.tick,
        )
    return _measured(job, job.load(), meter, clock, theta_1)


class Clock(Silent):
    """When every step ended, and with which losses: L, L_DVA, L_SCL, L_VLD."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[tuple[float, float, float, float]] = []

    def tick(self, *losses: float) -> None:
        self.ends.append(time.monotonic())
        self.losses.append(cast(tuple[float, float, float, float], losses))

    def step(self, progress: StepProgress) -> None:
        self.tick(progress.total, progress.dva, progress.scl, progress.vld)

    @property
    def seconds_a_step(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


@dataclass
class Meter:
    seconds: float = 0.0
    peak_bytes: int = 0
    loaded_bytes: int = 0


@contextmanager
def measuring(device: torch.device) -> Iterator[Meter]:
    """The seconds and the peak memory of what is run inside."""
    meter, started = Meter(), time.monotonic()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        meter.loaded_bytes = torch.cuda.memory_allocated(device)
    else:
        # The peak so far is that of the loading, which holds the weights twice.
        Path("/proc/self/clear_refs").write_text("5")
        meter.loaded_bytes = _process_memory("VmRSS")
    yield meter
    meter.seconds = time.monotonic() - started
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_memory("VmHWM")
    meter.peak_bytes = peak


def _process_memory(field: str) -> int:
    # Not ru_maxrss: it can't be reset, and a process inherits it from the one that started it.
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _measured(
    job: Job, backbone: Backbone, meter: Meter, clock: Clock, theta_1: dict[str, Tensor]
) -> Measured:
    pictures = len(job.shots) * job.config.epochs / job.steps  # a step
    return Measured(
        seconds=meter.seconds,
        images_per_second=pictures / clock.seconds_a_step,
        seconds_a_step=clock.seconds_a_step,
        peak_bytes=meter.peak_bytes,
        loaded_bytes=meter.loaded_bytes,
        last_loss=clock.losses[-1][0],
        accuracy=_accuracy(job, backbone, theta_1) if job.tests else None,
    )


def _accuracy(job: Job, backbone: Backbone, theta_1: dict[str, Tensor]) -> float:
    theta_0 = tower_parameters(backbone.model)
    model = with_parameters(backbone, interpolate(theta_0, theta_1, job.config.alpha))
    texts = [class_texts(name, job.config.templates) for name in job.class_names]
    head = build_zero_shot_classifier(model, backbone.tokenize, texts)  # [C, D]
    right = 0
    for start in range(0, len(job.tests), 64):
        tests = job.tests[start : start + 64]
        pixels = torch.stack([backbone.preprocess(open_image(test.source)) for test in tests])
        answers = (image_features(model, pixels) @ head.T).argmax(dim=-1).tolist()
        right += sum(job.class_names[a] == t.class_name for a, t in zip(answers, tests, strict=True))
    return right / len(job.tests)


# The loops, in turn.


def precisions(device: str) -> list[Precision]:
    """fp32, and what `auto` takes on this device."""
    names: dict[torch.dtype | None, Precision] = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    automatic = names.get(mixed_precision("auto", torch.device(device)), "fp32")
    return ["fp32"] if automatic == "fp32" else ["fp32", automatic]


def run_loops(
    job: Job, repetitions: int, workers: Sequence[int], kept: Path, console: Console
) -> dict[str, list[Measured]]:
    """A B C A B C …: by the loop's name its repetitions, each with another seed.

    Args:
        kept: a JSON file of what was measured. It goes on where that ends.
    """
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    runs = {name: [Measured(**m) for m in of_loop] for name, of_loop in known.items()}
    for seed in range(repetitions):
        seeded = replace(job, config=replace(job.config, seed=seed))
        loops: dict[str, tuple[Any, ...]] = {
            f"researcher, {_workers(n)}, fp32": (run_researcher, seeded, n) for n in workers
        }
        for precision in precisions(job.device):
            config = replace(seeded.config, precision=precision)
            loops[f"product, {precision}"] = (run_product, replace(seeded, config=config))
        for name, (function, *arguments) in loops.items():
            if len(runs.setdefault(name, [])) > seed:
                continue
            start = in_fresh_trainer if function is run_product else in_fresh_process
            found: Measured = start(function, *arguments)
            runs[name].append(found)
            content = {name: [asdict(m) for m in of_loop] for name, of_loop in runs.items()}
            kept.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            console.print(f"  {seed + 1}/{repetitions} {name}: {_summary(found)}", highlight=False)
    return {name: of_loop[:repetitions] for name, of_loop in runs.items() if len(of_loop) >= repetitions}


def _workers(count: int) -> str:
    return "no reading process" if count == 0 else f"{count} reading processes"


def _summary(m: Measured) -> str:
    return f"{m.images_per_second:.1f} images/s, job {m.seconds:.1f} s, peak {m.peak_bytes / 1e9:.2f} GB"


def loops_table(title: str, runs: dict[str, list[Measured]]) -> Table:
    """Against the faster of the researcher's variants, whichever that is in each column."""
    repetitions = min(len(of_loop) for of_loop in runs.values())
    table = Table(
        title,
        [
            "loop",
            "images/s",
            "ratio",
            "job, s",
            "ratio",
            "peak, GB",
            "above the network",
            "last loss",
            "acc.",
        ],
        note=f"Medians of {repetitions} repetitions, accuracy the mean; ratios of medians, in brackets the "
        "smallest and largest of the single repetitions, to the researcher's faster variant. Peak: of the "
        "process, in the training; above the network: that less the process with the network loaded; "
        "DataLoader's processes are not counted. Accuracy: θ(α) on the test pictures.",
    )
    theirs = [runs[name] for name in runs if name.startswith("researcher")]
    fastest = max(theirs, key=lambda r: statistics.median(m.images_per_second for m in r))
    shortest = min(theirs, key=lambda r: statistics.median(m.seconds for m in r))
    for name, of_loop in runs.items():
        rates, seconds = [m.images_per_second for m in of_loop], [m.seconds for m in of_loop]
        accuracies = [m.accuracy for m in of_loop if m.accuracy is not None]
        table.rows.append(
            [
                name,
                f"{statistics.median(rates):.1f}",
                _ratio(rates, [m.images_per_second for m in fastest]),
                f"{statistics.median(seconds):.1f}",
                _ratio([m.seconds for m in shortest], seconds),
                f"{statistics.median(m.peak_bytes for m in of_loop) / 1e9:.2f}",
                f"{statistics.median(m.peak_bytes - m.loaded_bytes for m in of_loop) / 1e9:.2f}",
                f"{statistics.median(m.last_loss for m in of_loop):.3f}",
                f"{statistics.mean(accuracies):.3f}" if accuracies else "–",
            ]
        )
    return table


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    single = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ours) / statistics.median(theirs)
    return f"{ratio:.2f} ({min(single):.2f}–{max(single):.2f})"


# The machine's limit.


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, two for a multiplication with its addition, of matrix products and
    convolutions: all else is small."""

    forward: int
    backward: int


def _convolution_backward(
    of_output: Sequence[int],
    _x: Sequence[int],
    weight: Sequence[int],
    *rest: Any,
    **_: Any,
) -> int:
    # torch's own formula takes the gradient of grouped filters for that of full ones: of depthwise
    # ones it counts as many times too much as there are channels. Either gradient costs as much as the
    # way forward: the filter, once for every element of the output.
    gradients: list[bool] = rest[-1]
    return sum(gradients[:2]) * 2 * math.prod(of_output) * math.prod(weight[1:])


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    of_output: Sequence[int],
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    return int(sdpa_backward_flop_count(of_output, query, key, value))


FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    # The CPU's attention, which torch doesn't count.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(function: Callable[[], Tensor]) -> Flops:
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as forward:
        result = function()
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as backward:
        if result.requires_grad:
            result.sum().backward()
    return Flops(forward.get_total_flops(), backward.get_total_flops())


def step_flops(backbone: Backbone, texts: Sequence[str], config: AdaptConfig) -> dict[str, int]:
    """Of one step of the product, by what it is spent on.

    Args:
        texts: one sentence for each class of a batch.
    """
    student = copy.deepcopy(backbone.model)
    fuse_conv_bn(student, backbone.image_size)
    for name, parameter in tower_parameters(student).items():
        parameter.requires_grad_(name.startswith("visual.") or config.text_learning_rate != 0)
    picture = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    tokens = backbone.tokenize(list(texts)).to(backbone.device)
    image = count_flops(lambda: encode_images(student, picture))
    text = count_flops(lambda: encode_tokens(student, tokens))
    batch = config.batch_size
    return {
        "image tower": batch * (image.forward + image.backward),
        "text tower": text.forward + text.backward,
        "teacher": batch * image.forward,
    }


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """The best rate at which square matrices of some sizes are multiplied, in FLOP/s."""
    best = 0.0
    for size in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for _ in range(6):
            started = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


@dataclass(frozen=True)
class Limit:
    flops: dict[str, int]
    rate: float
    """FLOP/s."""
    seconds_a_step: float
    profiled_seconds_a_step: float
    groups: dict[str, float]
    """Seconds a step, of the profiled one."""
    crops_seconds_a_step: float
    """In a thread of its own beside the step."""

    @property
    def share(self) -> float:
        """Of the machine's matrix product rate that the step reaches."""
        return sum(self.flops.values()) / self.rate / self.seconds_a_step


def measure_limit(job: Job) -> Limit:
    backbone = job.load()
    dtype = mixed_precision(job.config.precision, backbone.device) or torch.float32
    texts = [job.config.templates[0].replace("{}", name) for name in job.class_names]
    clock, profiled = Clock(), ProfiledSteps(job.steps, backbone.device)
    train_product(job, backbone, clock)
    train_product(job, replace(backbone, model=labelled(backbone.model)), profiled)
    return Limit(
        flops=step_flops(backbone, texts[: job.config.batch_size], job.config),
        rate=matmul_rate(dtype, backbone.device),
        seconds_a_step=clock.seconds_a_step,
        profiled_seconds_a_step=profiled.seconds_a_step,
        groups=profiled.groups(),
        crops_seconds_a_step=_crops_seconds(job, backbone.image_size),
    )


def _crops_seconds(job: Job, size: int) -> float:
    pictures = read(job, size)[: job.config.batch_size]
    generator, started = torch.Generator().manual_seed(0), time.monotonic()
    for picture in pictures:
        random_resized_crop(picture, size, job.config.crop_scale, generator)
    return time.monotonic() - started


# Where the time of a step goes.

TEACHER, TEXT, OPTIMISER = "teacher", "text tower", "optimiser"
MATRIX, DEPTHWISE, NORMS = "convolution and matrix products", "depthwise convolution", "normalisation"
ELEMENTWISE, REST = "elementwise and copies", "Python and waiting"
MATRIX_OPERATORS = re.compile(r"conv|mm$|mm_|matmul|linear$|linear_|dot_product|attention")


def labelled(model: nn.Module) -> nn.Module:
    """A copy that says in a profile which tower is at work, and so do its copies."""
    model = copy.deepcopy(model)

    def encode_image(self: Any, *arguments: Any, **options: Any) -> Any:
        with record_function("image tower" if torch.is_grad_enabled() else TEACHER):
            return type(self).encode_image(self, *arguments, **options)

    def encode_text(self: Any, *arguments: Any, **options: Any) -> Any:
        with record_function(TEXT):
            return type(self).encode_text(self, *arguments, **options)

    # Methods of an object are bound anew when it is copied.
    for method in (encode_image, encode_text):
        setattr(model, method.__name__, MethodType(method, model))
    return model


class ProfiledSteps(Clock):
    """A reporter that profiles all steps but the first."""

    def __init__(self, steps: int, device: torch.device) -> None:
        super().__init__()
        self._steps, self._on_gpu = steps, device.type == "cuda"
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        self._profile = profile(activities=kinds, record_shapes=True)

    def step(self, progress: StepProgress) -> None:
        super().step(progress)
        if progress.step == 1:
            self._profile.start()
            self.ends[0] = time.monotonic()
        elif progress.step == self._steps:
            self._profile.stop()

    def groups(self) -> dict[str, float]:
        """Seconds a step in which an operator of each group ran itself, and the rest of the step."""
        events = [e for e in self._profile.events() or [] if e.device_type.name == "CPU"]
        of_text = {
            e.sequence_nr for e in events if e.sequence_nr >= 0 and TEXT in (a.name for a in _ancestry(e))
        }
        seconds: dict[str, float] = defaultdict(float)
        for event in events:
            own = event.self_device_time_total if self._on_gpu else event.self_cpu_time_total
            seconds[group_of(event, of_text)] += own / 1e6 / (self._steps - 1)
        seconds[REST] += self.seconds_a_step - sum(seconds.values())
        return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def group_of(event: Any, of_text: set[int]) -> str:
    """The group of a profiled operator.

    Args:
        of_text: the sequence numbers of the text tower's operators on the way forward. The node of
            the way back has the number of the operator that made it.
    """
    ancestry = list(_ancestry(event))
    names = [a.name for a in ancestry]
    if any(name.startswith("Optimizer.") for name in names):
        return OPTIMISER
    if TEACHER in names:
        return TEACHER
    back = next((a for a in ancestry if a.name.startswith("autograd::engine::evaluate_function")), None)
    if TEXT in names or (back is not None and back.sequence_nr in of_text):
        return TEXT
    if any("_Depthwise" in name for name in names) or any(_is_depthwise(a) for a in ancestry):
        return DEPTHWISE
    if not event.name.startswith("aten::"):
        return REST
    if re.search("(batch|layer|group)_norm", event.name):
        return NORMS
    return MATRIX if MATRIX_OPERATORS.search(event.name) else ELEMENTWISE


def _ancestry(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _is_depthwise(event: Any) -> bool:
    """Whether it is a convolution with filters [C, 1, K, K]."""
    shapes = event.input_shapes or []
    return "conv" in event.name and any(len(s) == 4 and s[0] > 1 and s[1] == 1 for s in shapes[1:3])


def limits_table(limits: dict[str, Limit]) -> Table:
    table = Table(
        "How near a step is to the machine's matrix products",
        ["training", *next(iter(limits.values())).flops, "GFLOP a step", "GFLOP/s", "at least, s", "step, s"],
        note="GFLOP of a step by tower (the student's forward and backward, the teacher's forward); GFLOP/s: "
        "the best of square matrix products in that precision; at least: their quotient; share: that by "
        "the measured step.",
    )
    table.columns.append("share")
    for name, limit in limits.items():
        total = sum(limit.flops.values())
        figures = [*limit.flops.values(), total, limit.rate]
        row = [name, *(f"{figure / 1e9:,.0f}" for figure in figures), f"{total / limit.rate:.3f}"]
        table.rows.append([*row, f"{limit.seconds_a_step:.3f}", f"{limit.share:.0%}"])
    return table


def profile_table(limits: dict[str, Limit]) -> Table:
    table = Table(
        "Where the time of a step goes, in seconds",
        ["", *limits],
        note="By torch.profiler, which slows the step a little. Groups without a tower's name are the image "
        "tower of the student and the losses, both ways. The crops of the next batch are made in a thread "
        "beside the step; that they take so long alone does not mean that the step waits for them.",
    )
    for group in dict.fromkeys(group for limit in limits.values() for group in limit.groups):
        cells = [_seconds(one.groups.get(group, 0.0), one.profiled_seconds_a_step) for one in limits.values()]
        table.rows.append([group, *cells])
    table.rows.append(["all", *(f"{one.profiled_seconds_a_step:.3f}" for one in limits.values())])
    table.rows.append(["beside it: crops", *(f"{one.crops_seconds_a_step:.3f}" for one in limits.values())])
    return table


def _seconds(seconds: float, of_all: float) -> str:
    return f"{seconds:.3f} ({seconds / of_all:.0%})"


# Memory, and the service.


def memory_table(runs: dict[int, Measured], title: str) -> Table:
    table = Table(
        title,
        ["images_at_once", "peak, GB", "above the network, GB", "s a step"],
        note="Each in a fresh process. Above the network: the peak less the process with the network loaded.",
    )
    for count, m in runs.items():
        above = m.peak_bytes - m.loaded_bytes
        row = [str(count), f"{m.peak_bytes / 1e9:.2f}", f"{above / 1e9:.2f}", f"{m.seconds_a_step:.2f}"]
        table.rows.append(row)
    return table


def time_service(shots: Sequence[Shot], jobs: int, console: Console) -> list[tuple[str, dict[str, float]]]:
    """(`evaluate`, seconds by stage) of jobs without and with a report in turn, `jobs` of each. The first
    stage is the upload; the sum is from POST /adapt to the end."""
    pictures = Pictures(
        tuple(Picture(shot.class_name, cast(Path, shot.source).name, shot.source) for shot in shots), ()
    )
    taken: list[tuple[str, dict[str, float]]] = []
    with (
        running_service() as service,
        Client(service.url) as client,
    ):
        service.wait_until_ready(seconds=90, backbone_seconds=180)
        for evaluate in ("none", "auto") * jobs:
            stages: dict[str, float] = defaultdict(float)
            at = [("upload", time.monotonic())]
            config = {"backbone": STARTER, "evaluate": evaluate}
            job = client.adapt(pictures.dataset(), name=f"train_speed {len(taken) + 1}", config=config)
            changed = partial(_note_stage, stages, at)
            changed(job.job)
            changed(job.wait(on_change=changed))
            taken.append((evaluate, dict(stages)))
            console.print(f"  evaluate {evaluate}: {sum(stages.values()):.1f} s", highlight=False)
    return taken


def _note_stage(stages: dict[str, float], at: list[tuple[str, float]], job: ServedJob) -> None:
    """`at`: the stage that the job was in, and since when."""
    (stage, since), now = at[0], time.monotonic()
    stages[stage] += now - since
    at[0] = (job.progress.stage if job.progress else job.status, now)


def service_table(taken: Sequence[tuple[str, dict[str, float]]], shots: Sequence[Shot]) -> Table:
    classes = len({shot.class_name for shot in shots})
    names = list(dict.fromkeys(name for _, stages in taken for name in stages))
    rows = []
    for kind in dict.fromkeys(evaluate for evaluate, _ in taken):
        of_kind = [stages for evaluate, stages in taken if evaluate == kind]
        whole = statistics.median(sum(stages.values()) for stages in of_kind)
        medians = [statistics.median(stages.get(name, 0.0) for stages in of_kind) for name in names]
        rows.append([kind, str(len(of_kind)), f"{whole:.1f}", *(f"{value:.1f}" for value in medians)])
    return Table(
        f"From POST /adapt to the end of a job: starter, {len(shots)} pictures of {classes} classes",
        ["`evaluate`", "jobs", "s", *names],
        rows,
        "Medians; then by stage.",
    )


# The command.


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    if given.steps is not None and given.steps < 2:
        raise SystemExit("--steps must be 2 or more: a step is timed from the end of the one before.")
    if given.data is None:
        raise SystemExit(
            "Say what to train on: --data FOLDER, with train/<class name>/ and test/<class name>/ in it, a "
            "folder of pictures per class."
        )
    parts = [part for part in PARTS if getattr(given, part)] or ["loops", "limits", "memory"]
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    if given.threads:
        torch.set_num_threads(given.threads)
    console, data = Console(width=160), load(given.data)
    facts = machine(given)
    given.out.mkdir(parents=True, exist_ok=True)
    console.print(f"{facts}", highlight=False, markup=False)
    tables: list[Table] = []
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="clipcite-train-speed-") as folder:
        jobs = {name: make_job(name, data, given, Path(folder)) for name in given.backbones}
        if "loops" in parts:
            for name, job in jobs.items():
                console.print(f"{name}, the loops")
                what = f"{given.data.name}-{given.device}-{torch.get_num_threads()}threads-{job.steps}steps"
                kept = given.out / f"train-speed-kept-{name}-{what}.json"
                runs = run_loops(job, given.repetitions, given.workers, kept, console)
                tables.append(loops_table(_title(name, job), runs))
                measured[f"loops {name}"] = {k: [asdict(m) for m in of] for k, of in runs.items()}
        if "limits" in parts:
            limits = {}
            for name, job in jobs.items():
                for precision in precisions(given.device):
                    console.print(f"{name} {precision}, the machine's limit")
                    config = replace(job.config, precision=precision)
                    few = replace(job, config=config).cut(given.steps or MAX_STEPS)
                    limits[f"{name} {precision}"] = in_fresh_trainer(measure_limit, few)
            tables += [limits_table(limits), profile_table(limits)]
            measured["limits"] = {name: asdict(limit) for name, limit in limits.items()}
        if "memory" in parts:
            name = given.memory_backbone
            job = make_job(name, data, given, Path(folder)).cut(MEMORY_STEPS)
            by_count = {}
            for count in IMAGES_AT_ONCE:
                config = replace(job.config, images_at_once=count)
                by_count[count] = in_fresh_trainer(run_product, replace(job, config=config))
                console.print(f"{name}, {count} images at once: {_summary(by_count[count])}", highlight=False)
            title = f"Memory of {name}, batch {job.config.batch_size}, precision {job.config.precision}"
            tables.append(memory_table(by_count, title))
            measured["memory"] = {count: asdict(m) for count, m in by_count.items()}
        if "service" in parts:
            console.print("The service")
            shots = _shots(data, list(range(len(data.class_names)))[:SERVICE_CLASSES], given.shots)
            measured["service"] = time_service(shots, SERVICE_JOBS, console)
            tables.append(service_table(measured["service"], shots))
    write(tables, {"machine": facts, "measured": measured}, "-".join(parts), given, console)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with train/ and test/")
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help=f"run the part {part!r}")
    parser.add_argument("--backbones", nargs="+", default=[STARTER, "ViT-B-32", "ViT-B-16"])
    parser.add_argument("--memory-backbone", default="ViT-B-16")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--steps",
        type=int,
        help=f"at most so many a job, 2 or more; default: all of starter, {MAX_STEPS} of others",
    )
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--tests", type=int, default=50, help="test pictures a class for the accuracy")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 2], help="the researcher's DataLoader; one loop each"
    )
    parser.add_argument("--device", default="auto", help="auto is the GPU where there is one")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser


def make_job(name: str, data: DataSet, given: argparse.Namespace, folder: Path) -> Job:
    """The recipe of a backbone on this data; the starter is tested too."""
    trained = sorted({example.label for example in data.train})
    backbone = name if name == STARTER else random_weights(name, folder / name)
    job = Job(
        backbone,
        resolve_config(backbone=backbone),
        tuple(_shots(data, trained, given.shots)),
        given.device,
        given.threads,
        get_settings().cache,
        tuple(_shot(data, e) for e in fewer_tests(data, given.tests).test if e.label in trained)
        if name == STARTER
        else (),
    )
    steps = given.steps or (None if name == STARTER else MAX_STEPS)
    return job if steps is None else job.cut(steps)


def _shots(data: DataSet, classes: Sequence[int], shots: int) -> list[Shot]:
    return [_shot(data, example) for example in draw_shots(data.train, classes, shots, seed=0)]


def _shot(data: DataSet, example: Example) -> Shot:
    return Shot(example.path, data.class_names[example.label])


def random_weights(architecture: str, folder: Path) -> str:
    """An architecture of open_clip as a folder that load_backbone takes; its name there."""
    backbone = f"local-dir:{folder}"
    if folder.exists():
        return backbone
    settings = open_clip.get_model_config(architecture)
    if settings is None:
        raise SystemExit(f"open_clip knows no architecture {architecture!r}; for example ViT-B-32.")
    torch.manual_seed(0)
    model = open_clip.create_model(architecture)
    preprocess = open_clip.get_model_preprocess_cfg(model)
    kept = {key: preprocess[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    folder.mkdir(parents=True)
    content = json.dumps({"model_cfg": settings, "preprocess_cfg": kept})
    (folder / "open_clip_config.json").write_text(content, encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return backbone


def machine(given: argparse.Namespace) -> dict[str, Any]:
    return {
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "device": given.device if given.device != "cuda" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "load before": round(os.getloadavg()[0], 2),  # near 0, or the figures are not of this machine
    }


def _title(name: str, job: Job) -> str:
    weights = "" if name == STARTER else ", random weights"
    classes = len(job.class_names)
    return f"{name}{weights}: {len(job.shots)} pictures of {classes} classes, {job.steps} steps"


def write(
    tables: Sequence[Table], content: dict[str, Any], parts: str, given: argparse.Namespace, console: Console
) -> None:
    """Print the tables, and leave them as Markdown and with the single figures as JSON."""
    text = "\n\n".join(table.markdown() for table in tables)
    console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)
    of_backbones = "" if parts in ("memory", "service") else "-" + "-".join(given.backbones)
    name = f"train-speed-{parts}{of_backbones}"
    (given.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    everything = {**content, "tables": [vars(table) for table in tables]}
    (given.out / f"{name}.json").write_text(
        json.dumps(everything, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    console.print(f"\nWritten: {given.out / name}.md and .json")


if __name__ == "__main__":
    main()
