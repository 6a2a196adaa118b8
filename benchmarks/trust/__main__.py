"""Reliability of the reports: intervals, verdicts, label issues, calibration, cost.

    python -m benchmarks.trust --data clothing cifar10 stamps --splits 5 --tests 60

Each run adapts to half of the classes, report included. Kinds of runs:

- `real`: the model is also evaluated on the large test set, which the report has not seen. The classes of
  the other half are unlisted.
- `shuffled`: the labels of the training images are permuted, so nothing can be learnt.
- `planted`: one image in ten has the label of another class.
- `cost`: all classes, to measure the time of the report. Runs only on request.

Takes the options and folders of benchmarks.accuracy.paper. Runs are stored below --out, and an interrupted
series resumes. The tables are printed and written as Markdown and JSON.
"""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from benchmarks.accuracy.paper import load_for, parser, read_trials, write
from benchmarks.methods.common.registry import METHODS
from benchmarks.run_store import RunStore
from benchmarks.trust.judging import judged
from benchmarks.trust.runs import KINDS, Record, run
from benchmarks.trust.tables import tables
from core.clip.models.backbone import load_backbone
from core.settings import get_settings


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, METHODS)
    command_line.add_argument("--kinds", nargs="+", default=list(KINDS[:3]), choices=KINDS)
    command_line.add_argument(
        "--image-size", type=int, help="image size (pixels, default: the recipe's); smaller is faster"
    )
    command_line.set_defaults(seeds=1)
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    if options.image_size:
        backbone = load_backbone(
            options.backbone, cache=get_settings().cache, image_size=options.image_size, device=options.device
        )
    console = Console(width=160)
    name = f"trust-{options.backbone.replace('/', '-')}-{backbone.image_size}px"
    store = RunStore(options.out, name)
    judgements = []
    # Split by split, so that an interrupted series covers all kinds and data sets.
    trials = sorted(read_trials(options), key=lambda trial: trial.split)
    for trial in trials:
        for kind in options.kinds:
            if kind == "cost":
                everything = tuple(range(len(trial.data.class_names)))
                trial = replace(trial, trained=everything)
            key = trial.key(kind)
            record = Record.load(store, key)
            if record is None:
                record = run(kind, trial, backbone)
                record.save(store, key)
                console.print(f"{kind}, {trial.data.name}, split {trial.split}: {record.plain['verdict']}")
            judgements.append(judged(record))
    write(tables(judgements), name, options.out, console)


if __name__ == "__main__":
    main()
