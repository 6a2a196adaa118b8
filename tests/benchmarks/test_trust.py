"""The command on a tiny model and coloured images, and the tables from its records."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.run_store import RunStore
from benchmarks.trust import __main__ as trust
from benchmarks.trust import runs
from benchmarks.trust.judging import judged
from clipcite.types.images import Image
from core.clip.config import AdaptConfig
from core.clip.models.backbone import Backbone
from core.clip.pipeline import Adapted
from tests.benchmarks.coloured import COLOURS, folder_of


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("data") / "colours", sorted(COLOURS), train=16, test=3)


def test_all_kinds_are_run_once_and_shown(
    colours: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, adapt = runs.resolve_config, runs.adapt
    monkeypatch.setattr(runs, "resolve_config", lambda **given: resolve(**{**given, "epochs": 1}))
    trained: list[tuple[list[Image], Adapted]] = []

    def kept(backbone: Backbone, shots: list[Image], config: AdaptConfig) -> Adapted:
        trained.append((shots, adapt(backbone, shots, config)))
        return trained[-1][1]

    monkeypatch.setattr(runs, "adapt", kept)
    command = ["--data", str(colours), "--backbone", backbone.name, "--out", str(tmp_path), "--shots", "16"]
    trust.main([*command, "--kinds", *runs.KINDS])
    (runs_file,) = tmp_path.glob("runs-trust-*.json")
    store = RunStore(tmp_path, runs_file.stem.removeprefix("runs-"))
    records = {r.plain["kind"]: r for key in store.names() if (r := runs.Record.load(store, key))}
    assert set(records) == set(runs.KINDS)
    # With wrong labels a class has two colours, and images of one colour are so near that they are one photo.
    assert {k: r.plain["measured_on"]["images"] for k, r in records.items()} == {
        **{"real": 32, "shuffled": 4, "planted": 4, "cost": 64}
    }
    real = judged(records["real"])
    arrays = records["real"].arrays
    held_out = arrays["held_named_0.5"][:, 0] == arrays["held_truth"]
    assert real["trained_classes"]["adapted"]["value"] == held_out.mean()
    listed = arrays["truth"] < 2  # The trained classes come first.
    correct = arrays["named_0.5"][listed, 0] == arrays["truth"][listed]
    assert listed.sum() == 6
    assert real["true"] == sum(correct.tolist()) / 6
    assert real["confident"]["classes"] == 2
    names = records["real"].arrays["class_names"]
    assert sorted(names) == sorted(COLOURS)
    for alpha in ("0.0", "0.5"):
        among = records["real"].arrays[f"among {alpha}"]
        assert among.shape == (12, 4)
        assert np.array_equal(among.argmax(axis=1), records["real"].arrays[f"named_{alpha}"][:, 1])
    planted = records["planted"].plain
    assert planted["planted"] == 3
    # The folder of an image is its true class.
    wrong = [[Path(str(s.content)).parent.name != s.class_name for s in shots] for shots, _ in trained]
    [(of_shots, report)] = [
        (of_shots, adapted.evaluation.report)
        for of_shots, (_, adapted) in zip(wrong, trained, strict=True)
        if sum(of_shots) == 3
    ]
    issues = [of_shots[issue.position] for issue in report.label_issues]
    assert (planted["found"], planted["label_issues"]) == (sum(issues), len(issues))

    monkeypatch.setattr(trust, "run", None)  # On a second call everything exists.
    trust.main(command)
