"""Forms of the bare network: speed and changed predictions.

Images are decoded in memory. A form is a function from normalised images [B, 3, S, S] to features [B, D].
"""

import copy
import importlib.util
import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.accuracy.tables import Table
from benchmarks.data.dataset import DataSet
from core.clip.data.images import open_image
from core.clip.models.backbone import Backbone
from core.clip.models.features import build_zero_shot_classifier
from core.clip.prompts import class_prompts
from core.clip.training.conv_bn import fuse_conv_bn
from core.serving.pool.served_model import stock_model

Form = Callable[[Tensor], Tensor]
EAGER, PRODUCT = "eager fp32", "the product's"
BATCHES = (1, 8, 32)
ROUNDS = 7
IMAGES_PER_ROUND = 64
COMPARED_BATCH_SIZE = 8
"""Batch size of the comparison of predictions."""


def forms_of(backbone: Backbone, folder: Path, *, compiled: bool) -> dict[str, Form]:
    """Return the available forms by name: the researcher's first, the product's second.

    Args:
        folder: folder for files.
        compiled: include torch.compile, which takes minutes and needs a C++ compiler.
    """
    model = copy.deepcopy(backbone.model)
    served = stock_model("", backbone).model
    forms: dict[str, Form] = {
        EAGER: cast(Any, model).encode_image,
        PRODUCT: lambda x: served.encode_image(_last(x)),
        "channels last": lambda x: cast(Any, model).encode_image(_last(x)),
        "channels last, bf16 (autocast)": lambda x: _autocast(model, _last(x)),
    }
    fused = copy.deepcopy(backbone.model)
    fuse_conv_bn(fused, backbone.image_size)
    forms["the same, BatchNorm fused"] = lambda x: _autocast(fused, _last(x))
    example = torch.zeros(8, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    if backbone.device.type == "cpu" and importlib.util.find_spec("onnxruntime"):
        forms["ONNX Runtime fp32"] = _onnx(model, example, folder / "image.onnx")
    if compiled:
        tower: Form = torch.compile(cast(Any, model).visual)
        forms["torch.compile, channels last"] = lambda x: tower(_last(x))
    return forms


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _autocast(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16):
        return cast(Tensor, cast(Any, model).encode_image(x))


def _onnx(model: nn.Module, example: Tensor, file: Path) -> Form:
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
        torch.onnx.export(cast(Any, model).visual, (example,), str(file), dynamo=False, **names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads would slow the other forms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.contiguous().numpy()})[0])


@torch.inference_mode()
def seconds_per_image(form: Form, pixels: Tensor, batch: int) -> float:
    """Return the seconds per image for pixels [N, 3, S, S], in batches of `batch`."""
    started = time.perf_counter()
    for some in pixels.split(batch):
        form(some)
    if pixels.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / len(pixels)


def pixels_of(backbone: Backbone, files: Sequence[Path]) -> Tensor:
    """Return the pixels [N, 3, S, S], decoded like in the service."""
    size = 2 * backbone.image_size
    return torch.stack([backbone.preprocess(open_image(f, shortest_side=size)) for f in files])


def forms_tables(
    backbone: Backbone, sets: Sequence[DataSet], *, compiled: bool, compare: bool
) -> list[Table]:
    """Measure the forms in turn, and with `compare` their predictions on all test images."""
    with TemporaryDirectory() as folder:
        forms = forms_of(backbone, Path(folder), compiled=compiled)
        some = [example.path for data in sets for example in data.test][:IMAGES_PER_ROUND]
        pixels = pixels_of(backbone, some).to(backbone.device)
        seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
        for _ in range(ROUNDS + 1):
            for name, form in forms.items():
                for batch in BATCHES:
                    seconds[name, batch].append(seconds_per_image(form, pixels, batch))
        changed = changed_predictions(forms, backbone, sets) if compare else {}
    table = Table(
        f"The bare network, {backbone.name} at {backbone.image_size} px: images per second",
        [
            "form",
            *(f"batch of {batch}" for batch in BATCHES),
            "ratio",
            *(f"changed, {data.name}" for data in sets if compare),
        ],
        note=f"Medians of {ROUNDS} rounds in which the forms take turns, {len(pixels)} images each, "
        f"{torch.get_num_threads()} threads. Ratio: best batch size against {EAGER} at 32. Changed: of 1,000 "
        "test images, those with another prediction than the eager network, with the data set's own classes "
        "as candidates / with all classes.",
    )
    rates = {key: 1 / median(taken[1:]) for key, taken in seconds.items()}  # the first round warms up
    for name in forms:
        best = max(rates[name, batch] for batch in BATCHES)
        table.rows.append(
            [
                name,
                *(f"{rates[name, batch]:.1f}" for batch in BATCHES),
                f"{best / rates[EAGER, BATCHES[-1]]:.2f}",
                *changed.get(name, []),
            ]
        )
    return [table]


@torch.inference_mode()
def changed_predictions(
    forms: dict[str, Form], backbone: Backbone, sets: Sequence[DataSet]
) -> dict[str, list[str]]:
    """Return the cells of the table by form, one per data set."""

    def head(names: Sequence[str]) -> Tensor:
        prompts = [class_prompts(name, ["a photo of a {}."]) for name in names]
        return build_zero_shot_classifier(backbone.model, backbone.tokenize, prompts)

    every = head(list(dict.fromkeys(name for data in sets for name in data.class_names)))
    cells: dict[str, list[str]] = defaultdict(list)
    for data in sets:
        heads = (head(data.class_names), every)
        predictions: dict[str, list[Tensor]] = defaultdict(list)  # [B, 2]: the prediction of each classifier
        for start in range(0, len(data.test), COMPARED_BATCH_SIZE):
            files = [example.path for example in data.test[start : start + COMPARED_BATCH_SIZE]]
            pixels = pixels_of(backbone, files).to(backbone.device)
            for name, form in forms.items():
                features = F.normalize(form(pixels).float(), dim=-1)
                best = torch.stack([(features @ h.T).argmax(dim=-1) for h in heads], dim=-1)
                predictions[name].append(best.cpu())
        expected = torch.cat(predictions[EAGER])
        for name in forms:
            share = (torch.cat(predictions[name]) != expected).float().mean(dim=0) * 1000  # [2]
            cells[name].append(" / ".join(f"{value:.1f}" for value in share.tolist()))
    return cells
