"""Part b: infinity-emb, an embedding server that supports CLIP, with a network and images of equal size.

It needs other package versions than this project, and therefore its own environment:

    python -m venv FOLDER && FOLDER/bin/pip install "infinity-emb[all]" aiohttp
    python -m benchmarks.serving --data … --part b --infinity FOLDER/bin/infinity_emb

infinity-emb returns features and leaves the comparison to its client. A classification is one request with
the image and one with the prompts. A client that caches the features of its prompts needs only the first.
"""

import base64
import itertools
import json
import os
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import torch
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPConfig, CLIPModel

from benchmarks.accuracy.tables import Table
from benchmarks.running_api import RunningApi
from benchmarks.serving.clients import Load, load, raw_json
from benchmarks.serving.throughput import CLIENTS, class_names, requests_of

ARCHITECTURE = "ViT-B-32"
"""Architecture, equal to that of CLIPConfig()."""
START_SECONDS = 600
NAMES = 10
IMAGE, BOTH = "infinity, the image only", "infinity, the image and ten prompts"


def against_infinity(
    api: RunningApi,
    model: str,
    images: Sequence[bytes],
    command: Path,
    folder: Path,
    rounds: int,
    seconds: float,
) -> Table:
    """Measure both servers in turn.

    Args:
        model: a model of ARCHITECTURE.
        folder: folder for files.
    """
    write_clip(folder)
    rates: dict[tuple[str, int], list[Load]] = defaultdict(list)
    with running_infinity(command, folder) as (url, name):
        sources = _requests(url, name, images)
        sources["service, the image and ten classes"] = requests_of(api, images, model, NAMES)
        for number in range(rounds + 1):
            for kind, requests in sources.items():
                for clients in CLIENTS:
                    at = api.url if kind.startswith("service") else url
                    result = load(at, requests, clients=clients, seconds=seconds if number else 1)
                    if number:
                        rates[kind, clients].append(result)
    table = Table(
        f"{ARCHITECTURE} with random weights: classifications per second",
        ["", *(f"{clients} client{'s' if clients > 1 else ''}" for clients in CLIENTS), "errors"],
        note=f"Medians of {rounds} rounds in which all take turns, fp32, one image per request. infinity-emb "
        "(engine torch) returns features, which its client must compare.",
    )
    for kind in sources:
        share = 2 if kind == BOTH else 1  # two requests are one classification
        cells = [f"{median(one.rate for one in rates[kind, c]) / share:.1f}" for c in CLIENTS]
        errors = sum(one.errors for c in CLIENTS for one in rates[kind, c])
        table.rows.append([kind, *cells, str(errors)])
    return table


def _requests(url: str, model: str, images: Sequence[bytes]) -> dict[str, Iterator[tuple[int, bytes]]]:
    at = f"{url}/embeddings"
    prompts = [f"a photo of a {name}." for name in class_names(NAMES)]
    text = raw_json(at, {"model": model, "input": prompts, "modality": "text"})
    image_requests = []
    for image in images:
        link = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
        image_requests.append(raw_json(at, {"model": model, "input": [link], "modality": "image"}))
    both = itertools.chain.from_iterable((request, text) for request in image_requests)
    return {IMAGE: itertools.cycle(enumerate(image_requests)), BOTH: itertools.cycle(enumerate(both))}


@contextmanager
def running_infinity(command: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Run infinity-emb. Yield its URL and its name for the model in the folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = [
        "v2",
        "--model-id",
        str(folder),
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]
    arguments += [
        "--no-bettertransformer",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    process = subprocess.Popen(
        [command, *arguments], env={**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_SECONDS
        while (models := _models(url)) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("infinity did not start. Its output is above.")
            time.sleep(0.5)
        yield url, models[0]
    finally:
        process.terminate()
        process.wait(60)


def _models(url: str) -> list[str] | None:
    try:
        return [
            model["id"] for model in httpx.get(f"{url}/models", timeout=10).raise_for_status().json()["data"]
        ]
    except httpx.HTTPError:
        return None


def write_clip(folder: Path) -> None:
    """Save a transformers CLIP with random weights, and OpenAI's tokenizer and transform."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    tokenizer = SimpleTokenizer()
    merges = "\n".join(" ".join(pair) for pair in tokenizer.bpe_ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(tokenizer.encoder), encoding="utf-8")
    ends = {f"{kind}_token": "<end_of_text>" for kind in ("eos", "unk", "pad")}
    words = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<start_of_text>",
        **ends,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(words), encoding="utf-8")
    steps = {f"do_{step}": True for step in ("center_crop", "normalize", "resize", "convert_rgb", "rescale")}
    sizes = {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "resample": 3}
    scales = {"image_mean": [0.481, 0.458, 0.408], "image_std": [0.269, 0.261, 0.276]}
    transform = {"image_processor_type": "CLIPImageProcessor", **steps, **sizes, **scales}
    (folder / "preprocessor_config.json").write_text(json.dumps(transform), encoding="utf-8")
