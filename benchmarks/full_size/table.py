"""Stored results, and their tables in the documentation."""

import json
from pathlib import Path
from typing import Any

BACKBONES = (
    "ViT-B-32/openai",
    "ViT-B-16/openai",
    "ViT-L-14/openai",
    "ViT-B-16-SigLIP2/webli",
    "MobileCLIP-S2/datacompdr",
)
RESULTS = Path(__file__).parents[1] / "results" / "full_size.json"
PAGE = Path(__file__).parents[2] / "docs" / "operate" / "backbones.md"
START, END = "<!-- full_size -->\n", "<!-- /full_size -->"
NOT_MEASURED = "not measured"


def stored() -> dict[str, Any]:
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return results


def store(results: dict[str, Any]) -> None:
    """Write the results, and their table into the documentation."""
    RESULTS.write_text(f"{json.dumps(results, indent=1)}\n")
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{head}{START}{table(results)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """Return the sizing tables in Markdown: to serve, and to train."""
    serving = [["backbone", "disk", "RAM to serve", "delta", "largest difference"]]
    training = [["backbone", "peak RAM, batch 32", "peak RAM, micro-batches", "step on 2 cores (load)"]]
    for name in dict.fromkeys([*BACKBONES, *results]):
        row = results.get(name, {})
        micro, batch = row.get("train_micro"), row.get("train_batch")
        differences = [row[key] for key in row if key.endswith("_difference")]
        serving.append(
            [
                f"`{name}`",
                _size(row.get("disk_bytes")),
                _size(row.get("serve_adapted_bytes")),
                _size(row.get("delta_bytes")),
                f"{max(differences):.0e}" if differences else NOT_MEASURED,
            ]
        )
        training.append(
            [
                f"`{name}`",
                _size(batch and batch["peak_bytes"]),
                f"{_size(micro['peak_bytes'])} ({micro['micro_batch_size']} images)"
                if micro
                else NOT_MEASURED,
                _step(batch or micro),
            ]
        )
    return "\n\n".join(map(_markdown, (serving, training)))


def _markdown(rows: list[list[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|---|{'---:|' * (len(rows[0]) - 1)}", *body])


def _step(training: dict[str, Any] | None) -> str:
    seconds = training and training["seconds_per_step"]
    return NOT_MEASURED if not training or seconds is None else f"{seconds:.1f} s ({training['load']})"


def _size(size: int | None) -> str:
    if size is None:
        return NOT_MEASURED
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
