"""Rules on stored features: each arm against its formula, and the tables of a small series."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.accuracy import encodings, rules
from benchmarks.accuracy.arms import ARMS, GAMMA, SERVED, SWITCH, Request, gamma_rule
from benchmarks.accuracy.encodings import Encodings
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.models.backbone import Backbone


def features(seed: int, count: int, centres: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
    """Return random features, with labels those near the centres."""
    noise = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)) / 4
    return F.normalize(noise + torch.eye(16)[0] if centres is None else centres[labels] + noise / 2, dim=-1)


@pytest.fixture(scope="module")
def run() -> Encodings:
    """Three trained and two new classes, four shots each; 5 of 50 images resemble none, 7 are unrelated."""
    texts = {alpha: features(seed, 5) for seed, alpha in enumerate((0.0, 0.5))}
    truth, shot_labels = torch.arange(50) % 5, torch.arange(3).repeat_interleave(4)
    trained = torch.tensor([0, 2, 4])
    return Encodings(
        tuple("abcde"),
        (0, 2, 4),
        truth,
        shot_labels,
        {a: torch.cat([features(10, 45, t, truth[:45]), -features(11, 5)]) for a, t in texts.items()},
        {a: features(20, 12, t[trained], shot_labels) for a, t in texts.items()},
        texts,
        torch.arange(7),
        {a: features(30, 7) for a in texts},
        {a: features(40, 7) for a in texts},
    )


def mixed(run: Encodings) -> Request:
    return Request(run.images, run.texts, run.classes)


def test_the_switch_is_for_images_unlike_the_shots(run: Encodings) -> None:
    served, switched, stock = (ARMS[arm](run, mixed(run)) for arm in (SERVED, SWITCH, "stock"))
    means = F.normalize(
        torch.stack([run.shots[0.0][run.shot_labels == k].mean(dim=0) for k in range(3)]), dim=-1
    )
    to_others = torch.tensor(
        [
            max(float(s @ means[k]) for k in range(3) if k != y)
            for s, y in zip(run.shots[0.0], run.shot_labels, strict=True)
        ]
    )
    unlike = (run.images[0.0] @ means.T).amax(dim=1) < to_others.quantile(0.05)
    assert 0 < unlike.sum() < 50
    torch.testing.assert_close(switched[unlike], stock[unlike])
    torch.testing.assert_close(switched[~unlike], served[~unlike])
    closed = Request(run.images, {a: t[[0, 2, 4]] for a, t in run.texts.items()}, [0, 1, 2])
    torch.testing.assert_close(ARMS[SWITCH](run, closed), ARMS[SERVED](run, closed))


def test_gamma_is_half_of_the_median_lead_of_left_out_shots(run: Encodings) -> None:
    shots, labels, texts = run.shots[0.5], run.shot_labels, run.texts[0.5]
    leads = []
    for i in range(12):
        kept = [j for j in range(12) if j != i]
        prototypes = F.normalize(
            torch.stack([shots[[j for j in kept if labels[j] == k]].mean(dim=0) for k in range(3)]), dim=-1
        )
        count = 3 / (1 / 3 + 1 / 4 + 1 / 4)
        moved = count / (count + 3) * (prototypes - prototypes.mean(dim=0))
        heads = F.normalize(texts[[0, 2, 4]] + moved, dim=-1)
        leads.append(float((heads @ shots[i]).max() - (texts[[1, 3]] @ shots[i]).max()))
    found = gamma_rule(shots, labels, texts, run.classes).offsets
    gamma = sorted(max(0.0, lead) for lead in leads)[5] / 2  # the lower median of 12, as torch's
    torch.testing.assert_close(found, torch.tensor([gamma, 0, gamma, 0, gamma]))


def test_one_shot_left_out_leaves_the_text(run: Encodings) -> None:
    rule = gamma_rule(run.shots[0.5][:1], torch.tensor([0]), run.texts[0.5], [0, *[NEW_CLASS] * 4])
    lead = run.shots[0.5][0] @ run.texts[0.5][0] - (run.texts[0.5][1:] @ run.shots[0.5][0]).max()
    assert float(rule.offsets[0]) == pytest.approx(max(0.0, float(lead)) / 2, abs=1e-6)


def test_all_arms_are_measured_and_shown(
    run: Encodings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = cast(Backbone, SimpleNamespace(name="starter"))
    arrays = {
        "class_names": np.array(run.class_names),
        "trained": np.array(run.trained),
        "truth": run.truth.numpy(),
        "shot_labels": run.shot_labels.numpy(),
        "unrelated_truth": run.unrelated_truth.numpy(),
    }
    for name in ("images", "shots", "texts", "unrelated_images", "unrelated_texts"):
        arrays |= {f"{name}@{a}": t.numpy().astype(np.float16) for a, t in getattr(run, name).items()}
    store = encodings.store_of(backbone, tmp_path)
    for split in (50, 51):
        store.add(f"letters/split{split}-seed{split}-16shots-3classes/features", {}, arrays)
    rules.main(["--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert shown.count("half, 16 shots: mean of 1 sets, 2 runs") == 1
    assert "3 classes, 16 shots: mean of 1 sets, 2 runs" in shown
    assert all(f"| {arm} |" in shown for arm in ARMS)
    assert "Sets with two splits or more: 1 (minimum 9)" in shown
    found = rules.outcomes(ARMS[GAMMA], run)
    assert np.isnan(found["mixed N"]).sum() == 30
    both = np.where(np.isnan(found["mixed N"]), found["mixed B"], found["mixed N"])
    assert np.array_equal(both, found["all"])
    assert found["one new"].shape == (50, 2)
