"""Store of adapted models without training: meaningless predictions at realistic cost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.delta import Delta, encode
from core.store.db import migrate
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.api.serving.adapted import publish_model

CHANGE_STD = 0.002
"""Standard deviation of the change of a weight, similar to a training of the starter."""


@contextmanager
def store(data: Path) -> Iterator[tuple[Database, Blobs]]:
    """Create an empty store for `CLIPCITE_DATA`."""
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
    """Publish a 4-bit model per name, and return the ids. A repeated name is its next version.

    All models have different weights.
    """
    theta_0 = tower_parameters(backbone.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        theta_1 = {n: t + CHANGE_STD * torch.randn(t.shape, generator=generator) for n, t in theta_0.items()}
    first = encode(theta_0, theta_1, "4bit")
    return [
        publish_model(database, blobs, backbone, delta=_turned(first, i), classes=classes, name=name)
        for i, name in enumerate(names)
    ]


def _turned(delta: Delta, by: int) -> Delta:
    """Return a delta with permuted weights, much faster than drawing new ones."""
    return Delta(
        delta.kind,
        {n: t.roll(by, 0) if n.startswith(("words/", "scale/")) else t for n, t in delta.tensors.items()},
    )


def make_backbone(folder: Path, architecture: str) -> str:
    """Save an open_clip architecture with random weights, and return the backbone `local-dir:FOLDER`.

    Raises:
        SystemExit: open_clip does not know the architecture.
    """
    backbone = f"local-dir:{folder}"
    if folder.exists():
        return backbone
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise SystemExit(
            f"open_clip has no architecture {architecture!r}. Use one of its names, for example ViT-B-32."
        )
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = open_clip.create_model(architecture)
    given = open_clip.get_model_preprocess_cfg(network)
    preprocess = {key: given[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    content = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(content, encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return backbone
