"""Accuracy on test images with the faults of which the preflight warns.

    python -m benchmarks.checks.harm --data clothing --tests 30

The classifier is the instant preview with 16 clean shots per class. Only the test images are made small,
blurred or far away. A warning is due at the degree where accuracy begins to fall.
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.accuracy.harness import task_of
from benchmarks.accuracy.trials import few_shot, fewer_tests
from benchmarks.checks.preflight import blurred, scaled, shrunk
from benchmarks.data.load import load
from benchmarks.methods.common.answerers import stock_head
from core.clip.config import resolve_config
from core.clip.data.images import open_image
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.models.features import image_features
from core.settings import get_settings

Fault = Callable[[Image.Image], Image.Image]
FAULTS: dict[str, Fault] = {
    "as it is": lambda image: image,
    **{f"{side} pixels": lambda p, side=side: scaled(side / min(p.size))(p) for side in (64, 48, 32, 24, 16)},  # type: ignore[misc]
    **{f"blurred, σ {sigma}": blurred(sigma) for sigma in (1, 1.5, 2, 3, 4)},
    **{f"1/{part} of the side": shrunk(1 / part) for part in (2, 3, 4, 6, 8)},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    parser.add_argument("--tests", type=int, default=30, help="maximum test images per class (default 30)")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    size = resolve_config().image_size
    backbone = load_backbone("starter", cache=get_settings().cache, image_size=size)
    for folder in options.data:
        data = fewer_tests(load(folder), options.tests)
        task = task_of(few_shot(data, shots=(16,), seeds=(0,))[0], backbone)
        preview = PrototypeClassifier(_features(backbone, task.images), torch.tensor(task.labels))
        head = stock_head(task, data.class_names)
        truth = torch.tensor([example.label for example in data.test])
        images = [open_image(example.path) for example in data.test]
        for name, fault in FAULTS.items():
            features = _features(backbone, [fault(image) for image in images])
            scores = preview.rule(head, range(len(head))).scores(features)
            correct = [(s.argmax(dim=1) == truth).float().mean() for s in (scores, features @ head.T)]
            print(f"| {data.name} | {name} | {correct[0]:.3f} | {correct[1]:.3f} |", flush=True)


def _features(backbone: Backbone, images: Sequence[Image.Image]) -> Tensor:
    with ThreadPoolExecutor(2) as threads:
        pixels = list(threads.map(backbone.preprocess, images))
    return image_features(backbone.model, torch.stack(pixels))


if __name__ == "__main__":
    main()
