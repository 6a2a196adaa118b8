"""The stages of a small job, and the honesty of its progress."""

from pathlib import Path

import pytest

from benchmarks.full_size import CLASSES, make_images
from benchmarks.training import stages
from core.clip.config import AdaptConfig
from core.clip.models.backbone import load_backbone
from tests.core.clip.tiny import make_tiny_backbone


@pytest.mark.parametrize("evaluate", ["auto", "none"])
def test_all_stages_of_a_job_are_timed(
    evaluate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "POLL_SECONDS", 0.01)
    backbone = load_backbone(make_tiny_backbone(tmp_path / "tiny"), cache=tmp_path)
    images = make_images(5 * len(CLASSES), tmp_path / "images")
    config = AdaptConfig(epochs=2, batch_size=16, evaluate=evaluate)  # type: ignore[arg-type]
    measured = stages.run(backbone, images, config, tmp_path)
    assert (tmp_path / "weights.safetensors").is_file()
    assert min(measured.prepare, measured.steps, measured.store) > 0
    assert measured.honesty.falls == measured.honesty.rises == 0
    total = measured.prepare + measured.steps + measured.store + measured.evaluate
    assert total == pytest.approx(measured.honesty.seconds)
