"""Tables of all parts."""

import statistics
from collections.abc import Sequence

from benchmarks.accuracy.tables import Table
from benchmarks.training.loops import Measured
from clipcite.types.images import Image


def loops_table(title: str, runs: dict[str, list[Measured]]) -> Table:
    """Compare the loops with the researcher's faster variant, chosen for each column."""
    repetitions = min(len(of_loop) for of_loop in runs.values())
    table = Table(
        title,
        [
            "loop",
            "images/s",
            "ratio",
            "job, s",
            "ratio",
            "peak, GB",
            "beyond the network, GB",
            "last loss",
            "acc.",
        ],
        note=f"Medians of {repetitions} repetitions; accuracy is the mean. Ratios are of medians, to the "
        "researcher's faster variant, with the range over repetitions in brackets. Peak: memory of the "
        "process during training. Beyond the network: the peak minus the process with the network loaded. "
        "DataLoader processes are not counted. Accuracy: θ(α) on the test images.",
    )
    theirs = [runs[name] for name in runs if name.startswith("researcher")]
    fastest = max(theirs, key=lambda r: statistics.median(m.images_per_second for m in r))
    shortest = min(theirs, key=lambda r: statistics.median(m.seconds for m in r))
    for name, of_loop in runs.items():
        rates, seconds = [m.images_per_second for m in of_loop], [m.seconds for m in of_loop]
        accuracies = [m.accuracy for m in of_loop if m.accuracy is not None]
        table.rows.append(
            [
                name,
                f"{statistics.median(rates):.1f}",
                _ratio(rates, [m.images_per_second for m in fastest]),
                f"{statistics.median(seconds):.1f}",
                _ratio([m.seconds for m in shortest], seconds),
                f"{statistics.median(m.peak_bytes for m in of_loop) / 1e9:.2f}",
                f"{statistics.median(m.peak_bytes - m.loaded_bytes for m in of_loop) / 1e9:.2f}",
                f"{statistics.median(m.last_loss for m in of_loop):.3f}",
                f"{statistics.mean(accuracies):.3f}" if accuracies else "–",
            ]
        )
    return table


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    single = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ours) / statistics.median(theirs)
    return f"{ratio:.2f} ({min(single):.2f}–{max(single):.2f})"


def memory_table(runs: dict[int, Measured], title: str) -> Table:
    table = Table(
        title,
        ["micro_batch_size", "peak, GB", "beyond the network, GB", "s per step"],
        note="Each row in a fresh process. Beyond the network: peak minus the process with a loaded network.",
    )
    for count, m in runs.items():
        above = m.peak_bytes - m.loaded_bytes
        row = [str(count), f"{m.peak_bytes / 1e9:.2f}", f"{above / 1e9:.2f}", f"{m.seconds_a_step:.2f}"]
        table.rows.append(row)
    return table


def service_table(taken: Sequence[tuple[str, dict[str, float]]], shots: Sequence[Image]) -> Table:
    classes = len({shot.class_name for shot in shots})
    names = list(dict.fromkeys(name for _, stages in taken for name in stages))
    rows = []
    for kind in dict.fromkeys(evaluate for evaluate, _ in taken):
        of_kind = [stages for evaluate, stages in taken if evaluate == kind]
        whole = statistics.median(sum(stages.values()) for stages in of_kind)
        medians = [statistics.median(stages.get(name, 0.0) for stages in of_kind) for name in names]
        rows.append([kind, str(len(of_kind)), f"{whole:.1f}", *(f"{value:.1f}" for value in medians)])
    return Table(
        f"From POST /adapt to the end of a job: starter, {len(shots)} images of {classes} classes",
        ["`evaluate`", "jobs", "s", *names],
        rows,
        "Medians, in total and by stage.",
    )
