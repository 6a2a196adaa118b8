"""Part b: the code of open_clip's README, run for each request."""

import io
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import open_clip
import torch
from PIL import Image

from benchmarks.accuracy.tables import Table
from benchmarks.running_api import RunningApi
from benchmarks.serving.clients import Load, load
from benchmarks.serving.throughput import CLIENTS, NAMES, class_names, requests_of
from core.clip.config import STARTER
from core.clip.models.backbone import Backbone
from core.clip.models.starter import starter_folder
from core.settings import get_settings


@torch.no_grad()
def readme_way(
    name: str, image_size: int | None, names: Sequence[str], images: Sequence[bytes], seconds: float
) -> list[float]:
    """Return the seconds of each request, one after another, for about `seconds` and at least once.

    Args:
        name: model name for open_clip, `local-dir:FOLDER`.
    """
    model, _, preprocess = open_clip.create_model_and_transforms(name, force_image_size=image_size)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    for content in images:
        started = time.perf_counter()
        image = preprocess(Image.open(io.BytesIO(content)).convert("RGB")).unsqueeze(0)
        text = tokenizer([f"a photo of a {class_name}." for class_name in names])
        image_features = model.encode_image(image)
        text_features = model.encode_text(text)
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        (model.logit_scale.exp() * image_features @ text_features.T).softmax(dim=-1).topk(5)
        taken.append(time.perf_counter() - started)
        if time.perf_counter() > until:
            break
    return taken


def against_readme(
    api: RunningApi, backbone: Backbone, model: str, images: Sequence[bytes], rounds: int, seconds: float
) -> Table:
    """Measure the README's code sequentially and the service with the clients of part a, in turn."""
    size = backbone.image_size
    name = backbone.name.replace(STARTER, f"local-dir:{starter_folder(get_settings().cache)}")
    alone: dict[int, list[float]] = defaultdict(list)
    served: dict[tuple[int, int], list[Load]] = defaultdict(list)
    for number in range(rounds + 1):
        for names in NAMES:
            taken = readme_way(name, size, class_names(names), images, seconds if number else 0)
            requests = requests_of(api, images, model, names)
            for clients in CLIENTS:
                result = load(api.url, requests, clients=clients, seconds=seconds if number else 1)
                if number:
                    served[names, clients].append(result)
            if number:
                alone[names].append(1 / median(taken[1:] or taken))
    table = Table(
        f"{backbone.name} at {size} px, one image per request: requests per second",
        ["", *(f"{names:,} classes" for names in NAMES)],
        note=f"Medians of {rounds} rounds in which all take turns. open_clip's README: in a loop, without "
        "server and client, with the image from a JPEG in memory and the prompts encoded for each request. "
        "In brackets: ratio to open_clip's README.",
    )
    before = {names: median(rates) for names, rates in alone.items()}
    table.rows.append(["open_clip's README", *(f"{before[names]:.2f}" for names in NAMES)])
    for clients in CLIENTS:
        rates = {names: median(one.rate for one in served[names, clients]) for names in NAMES}
        cells = [f"{rates[names]:.1f} ({rates[names] / before[names]:.1f} x)" for names in NAMES]
        table.rows.append([f"service, {clients} client{'s' if clients > 1 else ''}", *cells])
    return table
