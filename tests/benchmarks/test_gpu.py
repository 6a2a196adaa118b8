"""The benchmark for owners of GPUs runs to its end on a CPU, with a network of one layer."""

import json
from pathlib import Path

import open_clip
import pytest

from benchmarks import gpu

LAYER = {"width": 64, "layers": 1}
TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "head_width": 32, **LAYER},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "heads": 2, **LAYER},
}


@pytest.mark.slow
def test_all_tables_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = tmp_path / "One-Layer.json"
    known.write_text(json.dumps(TINY))
    open_clip.add_model_config(known)
    for name, value in {"SMALL_TRAINED": ("One-Layer",), "SMALL_SERVED": "One-Layer", "SHOTS": 1}.items():
        monkeypatch.setattr(gpu, name, value)
    gpu.main(["--small", "--device", "cpu", "--out", str(tmp_path / "results")])
    page = (tmp_path / "results" / "gpu.md").read_text()
    for title in ("Machine", "Training", "One-Layer, cpu", "Precisions of the starter, cpu"):
        assert title in page
    trained = next(line for line in page.splitlines() if line.startswith("| One-Layer, fp32"))
    assert float(trained.split("|")[2]) > 0
    assert json.loads((tmp_path / "results" / "gpu.json").read_text())
