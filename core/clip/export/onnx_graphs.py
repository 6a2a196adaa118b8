"""Export of an adapted model at one α as two verified ONNX graphs."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from core.clip.export.model_card import LOAD_ONNX, ModelInfo, model_card
from core.clip.export.open_clip_folder import ABOUT, CARD, describe, save_tokenizer, write_json
from core.clip.models.backbone import Backbone, load_backbone, with_parameters
from core.errors import ClipCiteError

IMAGE, TEXT, USE = "image.onnx", "text.onnx", "onnx.json"
OPSET = 18
MAX_DIFFERENCE = 1e-5
"""Maximum difference between the normalised features of a graph and of the network."""
SENTENCES = ("a photo of a red fox.", "a blurry photo of two small boats on a lake, seen from above.", "x")


class OnnxDiffers(ClipCiteError):
    """An ONNX graph whose features differ from the network's."""

    code = "onnx_differs"
    status = 500


class Encoder(nn.Module):
    """One tower, with normalised features."""

    def __init__(self, network: nn.Module, kind: Literal["image", "text"]) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, batch: Tensor) -> Tensor:
        return F.normalize(getattr(self.network, f"encode_{self.kind}")(batch), dim=-1)


@torch.no_grad()
def export_onnx(folder: Path, parameters: Path, cache: Path, about: ModelInfo) -> None:
    """Write the ONNX export of a backbone with θ(α), a file of safetensors, into an existing folder.

    Raises:
        OnnxDiffers: the features of a graph differ from the network's.
        OSError: a file can't be written.
        The errors of `load_backbone`.
    """
    backbone = load_backbone(about.backbone, cache=cache, image_size=about.image_size)
    network = with_parameters(backbone, load_file(parameters))
    tokens = backbone.tokenizer(list(SENTENCES))  # padded to one length
    pixels = (
        torch.linspace(-2, 2, 3 * 3 * backbone.image_size**2).view(3, 3, *[backbone.image_size] * 2).sin()
    )
    write_graph(folder / IMAGE, Encoder(network, "image"), "pixels", pixels)
    write_graph(folder / TEXT, Encoder(network, "text"), "tokens", tokens)
    write_json(folder / USE, _use(backbone, tokens))
    write_json(folder / ABOUT, describe(about))
    save_tokenizer(folder, backbone)
    (folder / CARD).write_text(model_card(about, LOAD_ONNX), encoding="utf-8")


def write_graph(path: Path, module: nn.Module, name: str, example: Tensor, output: str = "features") -> None:
    """Export a module for any batch size, and verify the graph on batch sizes other than the example's."""
    import onnx
    import onnxruntime

    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about PyTorch internals
        torch.onnx.export(
            module.eval(),
            (example[:2],),
            str(path),
            input_names=[name],
            output_names=[output],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    onnx.checker.check_model(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for rows in (example, example[:1]):
        (found,) = session.run([output], {name: rows.numpy()})
        difference = float(np.abs(found - module(rows).numpy()).max())
        if not difference <= MAX_DIFFERENCE:
            raise OnnxDiffers(
                f"The values of the ONNX graph {path.name} differ from the model's by {difference:.1e}. "
                "Export with format=open_clip instead, and report the backbone's name."
            )


def _use(backbone: Backbone, tokens: Tensor) -> Mapping[str, Any]:
    """Return the description of the graphs' inputs and outputs for `onnx.json`."""
    config = backbone.open_clip_config
    return {
        "image": {
            "file": IMAGE,
            "input": {"name": "pixels", "type": "float32", "shape": ["batch", 3, *[backbone.image_size] * 2]},
            "preprocess": config["preprocess_cfg"],
        },
        "text": {
            "file": TEXT,
            "input": {"name": "tokens", "type": "int64", "shape": ["batch", tokens.shape[1]]},
            "tokenizer": config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") and "tokenizer.json",
        },
        "output": {"name": "features", "normalised": True},
        "logit_scale": backbone.logit_scale,
        "opset": OPSET,
    }
