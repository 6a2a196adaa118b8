"""One ONNX graph per tower, with a description of their inputs and outputs."""

from pathlib import Path

import torch

from core.clip.export.formats.classes import ModelExport
from core.clip.export.model_card import LOAD_ONNX
from core.clip.export.onnx_graphs import OPSET, SENTENCES, Encoder, write_graph
from core.clip.export.open_clip_folder import save_tokenizer, write_json

IMAGE, TEXT, USE = "image.onnx", "text.onnx", "onnx.json"


@torch.no_grad()
def write(folder: Path, export: ModelExport) -> str:
    """Write both graphs, `onnx.json` with their inputs, and the tokenizer. Return a program that runs them.

    Raises:
        OnnxDiffers: the features of a graph differ from the network's.
        OSError: a file can't be written.
    """
    backbone, network, size = export.backbone, export.network, export.backbone.image_size
    tokens = backbone.tokenizer(list(SENTENCES))  # padded to one length
    pixels = torch.linspace(-2, 2, 9 * size**2).view(3, 3, size, size).sin()
    write_graph(folder / IMAGE, Encoder(network, "image"), "pixels", pixels)
    write_graph(folder / TEXT, Encoder(network, "text"), "tokens", tokens)
    config = backbone.open_clip_config
    image = {"name": "pixels", "type": "float32", "shape": ["batch", 3, size, size]}
    text = {"name": "tokens", "type": "int64", "shape": ["batch", tokens.shape[1]]}
    tokenizer = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") and "tokenizer.json"
    use = {
        "image": {"file": IMAGE, "input": image, "preprocess": config["preprocess_cfg"]},
        "text": {"file": TEXT, "input": text, "tokenizer": tokenizer},
        "output": {"name": "features", "normalised": True},
        "logit_scale": backbone.logit_scale,
        "opset": OPSET,
    }
    write_json(folder / USE, use)
    save_tokenizer(folder, backbone)
    return LOAD_ONNX
