"""Can the reports be trusted? Their intervals and verdicts, found labels, calibration, sets, rejection.

    python -m benchmarks.trust --data clothing cifar10 stamps --splits 5 --tests 60

Each run adapts to half of the classes as a job does, report included, and asks the model about the large
test set, which the report has not seen; the classes of the other half are those that nobody has listed.
Kinds of runs: `real`; `shuffled`, the labels of the training pictures dealt out anew (nothing can be
learnt); `planted`, one picture in ten labelled as another class. Options and folders are those of
benchmarks.paper; every run is kept below --out, so that a run that was stopped goes on. The tables are
printed, and written as Markdown and JSON.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.data.dataset import Example
from benchmarks.data.few_shot import draw_shots
from benchmarks.harness import Trial
from benchmarks.methods.registry import METHODS
from benchmarks.paper import load_for, parser, read_trials, write
from benchmarks.tables import Table
from core.clip.adapt import Adapted, Shot, adapt
from core.clip.answers import Answers, Candidates, HeldOut, ask
from core.clip.backbone import Backbone, load_backbone
from core.clip.confidence import Confidence, calibration_error, reliability, softmax
from core.clip.config import AdaptConfig, resolve_config
from core.clip.preview import Preview
from core.clip.progress import Silent
from core.clip.prompts import class_texts
from core.settings import get_settings

Rows = NDArray[np.int64]
KINDS = ("real", "shuffled", "planted")
PLANTED = 0.1
COVERAGE = 0.9
RULES = "let_through_at_95"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__, METHODS)
    options.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options.add_argument("--image-size", type=int, help="other than the recipe's: smaller is faster")
    options.set_defaults(seeds=1)
    given = options.parse_args(arguments)
    backbone = load_for(given)
    if given.image_size:
        backbone = load_backbone(
            given.backbone, cache=get_settings().cache, image_size=given.image_size, device=given.device
        )
    trials = read_trials(given)
    found = []
    for kind in given.kinds:
        for trial in trials:
            folder = trial.folder(given.out, backbone, f"trust-{kind}-{backbone.image_size}px")
            file = folder / "trust.json"
            if not file.exists():
                record = run(kind, trial, backbone)
                folder.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
            found.append(json.loads(file.read_text(encoding="utf-8")))
    name = f"trust-{given.backbone.replace('/', '-')}-{backbone.image_size}px"
    write(tables(found), name, given.out, Console(width=160))


def run(kind: str, trial: Trial, backbone: Backbone) -> dict[str, Any]:
    """One adaptation with its report, and what the large test set says of both."""
    names = [trial.data.class_names[label] for label in trial.trained]
    examples = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    labels, planted = relabelled(kind, trial, examples)
    config = resolve_config(
        backbone=backbone.name,
        image_size=backbone.image_size,
        templates=tuple(trial.data.templates),
        seed=trial.seed,
    )
    shots = [
        Shot(example.path, trial.data.class_names[label])
        for example, label in zip(examples, labels, strict=True)
    ]
    # In the order of the labels, as the trained names are counted below.
    order = sorted(range(len(shots)), key=lambda i: labels[i])
    started = time.monotonic()
    adapted = adapt(backbone, [shots[i] for i in order], config)
    seconds = time.monotonic() - started
    report = adapted.report
    assert report is not None
    record: dict[str, Any] = {
        "kind": kind,
        "data": trial.data.name,
        "split": trial.split,
        "seconds": seconds,
        "report_seconds": report.seconds["report"],
        "training_seconds": report.seconds["training"],
        "verdict": report.verdict,
        "images": report.measured_on["images"],
        "auto": report.alpha_auto,
    }
    if kind == "planted":
        suspects = {order[s.position] for s in report.suspects}
        return {
            **record,
            "planted": len(planted),
            "found": len(planted & suspects),
            "suspects": len(suspects),
        }
    curve = sorted({0.0, 0.5, 0.5 if report.alpha_auto is None else report.alpha_auto})
    large = asked(backbone, adapted, names, trial, config, curve)
    return {**record, **against(report.to_dict(), adapted, large, backbone.logit_scale)}


def relabelled(kind: str, trial: Trial, examples: Sequence[Example]) -> tuple[list[int], set[int]]:
    """(the label of each picture, which of them are planted)."""
    labels = [example.label for example in examples]
    generator = np.random.default_rng(1000 + trial.seed)
    if kind == "shuffled":
        return generator.permutation(labels).tolist(), set()
    if kind == "real":
        return labels, set()
    chosen = generator.choice(len(labels), size=max(1, round(PLANTED * len(labels))), replace=False)
    for i in chosen:
        others = [label for label in trial.trained if label != labels[i]]
        labels[i] = int(generator.choice(others))
    return labels, {int(i) for i in chosen}


def asked(
    backbone: Backbone,
    adapted: Adapted,
    names: Sequence[str],
    trial: Trial,
    config: AdaptConfig,
    curve: Sequence[float],
) -> HeldOut:
    """The answers to the large test set at these α; the names of the other half are new."""
    assert adapted.weights.shots is not None
    more = [name for name in trial.data.class_names if name not in names]
    candidates = Candidates(
        (*adapted.class_names, *more),
        len(names),
        tuple(class_texts(name, config.templates) for name in (*adapted.class_names, *more)),
    )
    index = {name: i for i, name in enumerate(candidates.names)}
    shots = adapted.weights.shots
    parts = [
        ask(
            backbone,
            adapted.weights,
            candidates,
            Preview(shots.features[0].float(), shots.labels),
            [e.path for e in some],
            [index[trial.data.class_names[e.label]] for e in some],
            list(range(len(some))),
            alpha=0.5,
            curve=curve,
            curve_pictures=len(some),
            reporter=Silent(),
        )
        for some in (trial.data.test[i : i + 400] for i in range(0, len(trial.data.test), 400))
    ]
    return HeldOut.joined(parts)


def against(report: dict[str, Any], adapted: Adapted, large: HeldOut, logit_scale: float) -> dict[str, Any]:
    """What the report says beside what is so."""
    k = large.candidates.trained
    listed = np.flatnonzero(large.truth < k)
    served = large.curve[adapted.alpha]
    truth = large.truth[listed]
    right = {alpha: _right(answers.alone[listed], truth) for alpha, answers in large.curve.items()}
    of = report["trained_names"]
    accuracy, gain = right[adapted.alpha], right[adapted.alpha] - right[0.0]
    mixed = {alpha: _right(answers.among, large.truth) for alpha, answers in large.curve.items()}
    record = {
        "said": of["adapted"],
        "said_gain": of["adapted_against_stock"],
        "true": accuracy,
        "true_gain": gain,
        "preview": [of["preview"]["value"], _right(large.preview.alone[listed], truth)],
        "mixed": {str(alpha): value for alpha, value in mixed.items()},
        "alone": {str(alpha): value for alpha, value in right.items()},
    }
    fitted = adapted.metrics["confidence"]
    if fitted is not None:
        record["confidence"] = _confidence(Confidence.of(fitted), served, large, logit_scale)
    return record


def _confidence(fitted: Confidence, served: Answers, large: HeldOut, logit_scale: float) -> dict[str, Any]:
    k = large.candidates.trained
    listed, unlisted = np.flatnonzero(large.truth < k), np.flatnonzero(large.truth >= k)
    truth = large.truth[listed]
    before = softmax(logit_scale * served.alone[listed])
    after = softmax(logit_scale * served.alone[listed] / fitted.temperature)
    sets = after >= fitted.least_probability(COVERAGE)
    sets[np.arange(len(sets)), after.argmax(axis=1)] = True
    best = served.alone.max(axis=1)
    rules = {name: _let_through(score, listed, unlisted) for name, score in rejections(served, logit_scale)}
    return {
        "temperature": fitted.temperature,
        "error_before": calibration_error(reliability(before, truth)),
        "error_after": calibration_error(reliability(after, truth)),
        "covered": float(sets[np.arange(len(truth)), truth].mean()),
        "set_size": float(sets.sum(axis=1).mean()),
        "classes": k,
        "kept": float((best[listed] >= fitted.least_similarity).mean()),
        "let_through": float((best[unlisted] >= fitted.least_similarity).mean()),
        RULES: rules,
    }


def rejections(served: Answers, logit_scale: float) -> list[tuple[str, NDArray[np.float64]]]:
    """What pictures could be rejected by, more of it for those that look like a name, [N] each."""
    ranked = np.sort(served.alone, axis=1)
    logits = logit_scale * served.alone
    return [
        ("cosine", ranked[:, -1]),
        ("probability", softmax(logits).max(axis=1)),
        ("lead over the next name", ranked[:, -1] - ranked[:, -2]),
        ("lead over the mean name", ranked[:, -1] - ranked.mean(axis=1)),
        ("energy", np.log(np.exp(logits).sum(axis=1))),
    ]


def _let_through(score: NDArray[np.float64], listed: Rows, unlisted: Rows) -> float:
    """Share of the unlisted ones at the limit that keeps 95 % of the listed ones."""
    return float((score[unlisted] >= np.quantile(score[listed], 0.05)).mean())


def _right(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    return float((scores.argmax(axis=1) == truth).mean())


def tables(found: Sequence[dict[str, Any]]) -> list[Table]:
    sets = list(dict.fromkeys(record["data"] for record in found))
    made = [_reports(found, sets), _labels(found, sets), _confidences(found, sets), _alphas(found, sets)]
    return [table for table in made if table.rows]


def _of(found: Sequence[dict[str, Any]], kind: str, data: str | None = None) -> list[dict[str, Any]]:
    return [r for r in found if r["kind"] == kind and data in {None, r["data"]}]


def _inside(interval: dict[str, float], value: float) -> bool:
    return bool(interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9)


def _reports(found: Sequence[dict[str, Any]], sets: Sequence[str]) -> Table:
    table = Table(
        "What the report says, and what the large test set says",
        [
            *("pictures", "labels", "runs", "held out", "accuracy said", "on the test set"),
            *("the interval holds it", "gain said", "on the test set", "interval holds the gain", "verdicts"),
            *("training s", "report s"),
        ],
        note="Means. The accuracy is of the adapted network with the trained names as candidates.",
    )
    for kind in ("real", "shuffled"):
        for data in sets:
            runs = _of(found, kind, data)
            if not runs:
                continue
            verdicts = {v: sum(r["verdict"] == v for r in runs) for v in sorted({r["verdict"] for r in runs})}
            holds = sum(_inside(r["said"], r["true"]) for r in runs)
            gain_holds = sum(_inside(r["said_gain"], r["true_gain"]) for r in runs)
            table.rows.append(
                [
                    data,
                    kind,
                    str(len(runs)),
                    f"{np.mean([r['images'] for r in runs]):.0f}",
                    f"{np.mean([r['said']['value'] for r in runs]):.3f}",
                    f"{np.mean([r['true'] for r in runs]):.3f}",
                    f"{holds} of {len(runs)}",
                    f"{np.mean([r['said_gain']['value'] for r in runs]):+.3f}",
                    f"{np.mean([r['true_gain'] for r in runs]):+.3f}",
                    f"{gain_holds} of {len(runs)}",
                    ", ".join(f"{v} {count}" for v, count in verdicts.items()),
                    f"{np.mean([r['training_seconds'] for r in runs]):.0f}",
                    f"{np.mean([r['report_seconds'] for r in runs]):.0f}",
                ]
            )
    return table


def _labels(found: Sequence[dict[str, Any]], sets: Sequence[str]) -> Table:
    table = Table(
        "Wrong labels: one training picture in ten has another class's",
        ["pictures", "runs", "planted", "found", "precision", "recall"],
    )
    for data in sets:
        runs = _of(found, "planted", data)
        if runs:
            planted, hits, named = (sum(r[key] for r in runs) for key in ("planted", "found", "suspects"))
            precision = f"{hits / named:.2f}" if named else "–"
            table.rows.append(
                [data, str(len(runs)), str(planted), str(named), precision, f"{hits / planted:.2f}"]
            )
    return table


def _confidences(found: Sequence[dict[str, Any]], sets: Sequence[str]) -> Table:
    table = Table(
        "Confidence on the large test set, trained names as candidates",
        [
            *("pictures", "runs", "ECE before", "ECE after", "temperature"),
            *("90 % sets hold the truth", "names in a set", "listed kept", "unlisted let through"),
            "at exactly 95 % kept",
        ],
        note="Unlisted: pictures of the classes that are neither trained nor asked for. The last column is "
        "what each rule lets through at its best limit.",
    )
    for data in sets:
        runs = [r["confidence"] for r in _of(found, "real", data) if "confidence" in r]
        if runs:
            mean = {key: float(np.mean([r[key] for r in runs])) for key in runs[0] if key != RULES}
            rules = {rule: np.mean([r[RULES][rule] for r in runs]) for rule in runs[0][RULES]}
            table.rows.append(
                [
                    data,
                    str(len(runs)),
                    f"{mean['error_before']:.3f}",
                    f"{mean['error_after']:.3f}",
                    f"{mean['temperature']:.2f}",
                    f"{mean['covered']:.3f}",
                    f"{mean['set_size']:.2f} of {mean['classes']:.0f}",
                    f"{mean['kept']:.3f}",
                    f"{mean['let_through']:.3f}",
                    ", ".join(f"{rule} {share:.2f}" for rule, share in rules.items()),
                ]
            )
    return table


def _alphas(found: Sequence[dict[str, Any]], sets: Sequence[str]) -> Table:
    table = Table(
        'alpha "auto" beside 0.5, all pictures and all names',
        ["pictures", "runs", "chosen", "all at 0.5", "all at auto", "trained at 0.5", "trained at auto"],
    )
    for data in sets:
        runs = _of(found, "real", data)
        if runs:
            chosen = ", ".join(f"{r['auto']:g}" for r in runs)
            cells = [
                f"{np.mean([r[which]['0.5' if usual else str(r['auto'])] for r in runs]):.3f}"
                for which in ("mixed", "alone")
                for usual in (True, False)
            ]
            table.rows.append([data, str(len(runs)), chosen, *cells])
    return table


if __name__ == "__main__":
    main()
