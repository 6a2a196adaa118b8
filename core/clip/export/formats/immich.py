"""The files of a CLIP model for Immich's machine learning, in the folder that Immich expects."""

import json
import os
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from core.clip.export.formats.classes import ModelExport
from core.clip.export.formats.tokenizer import clip_tokenizer
from core.clip.export.onnx_graphs import SENTENCES, Encoder, write_graph
from core.clip.export.open_clip_folder import relocated

LOADING = """Immich finds the model under the name of its backbone, so that its search keeps its settings.

1. Copy `{folder}/` into the `clip/` folder of Immich's model cache, in place of the one that is there. With
   MACHINE_LEARNING_MODEL_REVISION={revision}, Immich reads the equal files below `{folder}/{revision}/`.
2. Set the CLIP model in Immich's administration to `{folder}`, and restart immich-machine-learning.
3. Run the job *Smart Search* for all assets: features of the model before can't be compared with these."""

REVISION = "v2"
"""Value of MACHINE_LEARNING_MODEL_REVISION. The default, `main`, has no folder of its own."""


class _Text(nn.Module):
    """The text tower for token ids of type int32, which Immich passes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.text = Encoder(network, "text")

    def forward(self, text: Tensor) -> Tensor:
        features: Tensor = self.text(text.long())
        return features


@torch.no_grad()
def write(folder: Path, export: ModelExport) -> str:
    """Write `clip/<backbone>/` with both graphs, the preprocessing and the tokenizer, also as a revision.

    Return the instructions for Immich.

    Raises:
        NotPlainClip: the tokenizer is not CLIP's.
        OnnxDiffers: the features of a graph differ from the network's.
        OSError: a file can't be written.
    """
    backbone, network = export.backbone, export.network
    tokenizer = clip_tokenizer(backbone.tokenizer)
    name = Path(backbone.name.removeprefix("local-dir:")).name
    if not backbone.name.startswith("local-dir:"):
        name = backbone.name.rpartition(":")[2].replace("/", "__")
    model = folder / "clip" / name
    visual, textual = model / "visual", model / "textual"
    for part in (visual, textual):
        part.mkdir(parents=True)
    size, config = backbone.image_size, relocated(backbone.open_clip_config)
    pixels = torch.linspace(-2, 2, 9 * size**2).view(3, 3, size, size).sin()
    write_graph(visual / "model.onnx", Encoder(network, "image"), "image", pixels)
    tokens = backbone.tokenizer(list(SENTENCES)).int()
    write_graph(textual / "model.onnx", _Text(network), "text", tokens)
    tokenizer.save_pretrained(textual)
    (model / "config.json").write_text(json.dumps(config["model_cfg"], indent=2))
    preprocess = {"interpolation": "bicubic", **config["preprocess_cfg"]}
    preprocess |= {"size": [size, size], "mean": list(backbone.mean), "std": list(backbone.std)}
    (visual / "preprocess_cfg.json").write_text(json.dumps(preprocess, indent=2))
    shutil.copytree(model, folder / REVISION, copy_function=os.link)
    (folder / REVISION).rename(model / REVISION)
    return LOADING.format(folder=name, revision=REVISION)
