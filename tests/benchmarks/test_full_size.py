"""`benchmarks.full_size` with small networks: a running service, from the download to the extended model."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks.full_size import __main__ as full_size
from tests.core.clip.families import SMALL, write_repository
from tests.hub import Hub

NAME = "hf-hub:tests/small"
OPTIONS = {"steps": 2, "micro": 4, "skip_batch": False, "only_extend": False}


@pytest.mark.slow
@pytest.mark.parametrize("skip_training", [False, True], ids=["trained", "changed"])
@pytest.mark.parametrize("family", SMALL)
def test_a_small_network(
    family: str, skip_training: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(hub: Hub, backbone: str, folder: Path) -> int:
        repository = write_repository(folder, *SMALL[family])
        hub.add("tests/small", repository)
        hub.add("timm/ViT-B-16-SigLIP2", repository)
        return (repository / "open_clip_model.safetensors").stat().st_size

    monkeypatch.setattr(full_size, "publish", publish)
    # The service scales images down in two steps if they are more than twice as large as the model's input.
    monkeypatch.setattr(full_size, "IMAGE_SIDE", 48)
    options = argparse.Namespace(**OPTIONS, skip_training=skip_training)
    result: dict[str, Any] = {}
    full_size.measure(NAME, tmp_path, options, result)
    assert result["downloads"] == 1
    if not skip_training:
        assert result["extended"] is True
        assert result["train_micro"]["peak_bytes"] > 100_000_000
    for kind in ("open_clip", "onnx", "import"):
        assert 0 <= result[f"{kind}_difference"] < full_size.TOLERANCE
