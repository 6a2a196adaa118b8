"""Adapted models without a training, in a store of their own: their answers mean nothing, their cost is that
of real ones."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file

from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.delta import Delta, encode
from core.store.db import migrate
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.core.serving.adapted import publish_model

MOVED = 0.002
"""Standard deviation of the change of a weight: about what a training does to the starter."""


@contextmanager
def store(data: Path) -> Iterator[tuple[Database, Blobs]]:
    """An empty one, for `CLIPCITE_DATA`."""
    url = f"sqlite:///{data / 'clipcite.db'}"
    migrate.upgrade(url)
    database = Database(url)
    try:
        yield database, Blobs((data / "blobs").as_uri())
    finally:
        database.close()


def publish_many(
    database: Database, blobs: Blobs, backbone: Backbone, names: list[str], classes: list[str]
) -> list[str]:
    """Ids of models kept in 4 bits, one for each name; a name that comes again is its next version. No two
    have the same weights."""
    theta_0 = tower_parameters(backbone.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        theta_1 = {n: t + MOVED * torch.randn(t.shape, generator=generator) for n, t in theta_0.items()}
    first = encode(theta_0, theta_1, "4bit")
    return [
        publish_model(database, blobs, backbone, delta=_turned(first, i), classes=classes, name=name)
        for i, name in enumerate(names)
    ]


def _turned(delta: Delta, by: int) -> Delta:
    """The same numbers at other weights, which takes a fraction of the time of drawing new ones."""
    return Delta(
        delta.kind,
        {n: t.roll(by, 0) if n.startswith(("words/", "scale/")) else t for n, t in delta.tensors.items()},
    )


def make_backbone(folder: Path, architecture: str) -> str:
    """One of open_clip's networks with random weights, as the backbone `local-dir:FOLDER`."""
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise SystemExit(f"open_clip has no network {architecture!r}.")
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = open_clip.CLIP(**config)
    preprocess = vars(PreprocessCfg()) | {"size": config["vision_cfg"]["image_size"]}
    content = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(content, encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return f"local-dir:{folder}"
