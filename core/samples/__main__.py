"""`python -m core.samples`: list the samples, or write one to a folder.

The output is JSON, which `clipcite samples` renders.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import ClipCiteError
from core.samples import catalog
from core.samples.sample import Sample


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="core.samples", description="Write sample images.")
    parser.add_argument("name", nargs="?", help="Name of the sample; default: the recommended one.")
    parser.add_argument("folder", nargs="?", type=Path, help="Folder; default: the name of the sample.")
    parser.add_argument("--list", action="store_true", help="List the samples, write nothing.")
    options = parser.parse_args(arguments)
    try:
        result = _list() if options.list else _write(options.name, options.folder)
    except ClipCiteError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    except OSError as error:
        name = error.filename or options.folder or "The folder"  # a full disk names no file
        sys.stderr.write(f"{name} cannot be written: {error.strerror}. Choose another folder.\n")
        return 1
    sys.stdout.write(f"{json.dumps(result)}\n")
    return 0


def _list() -> list[dict[str, Any]]:
    first = catalog.available()[0].name
    return [
        {**_shown(sample), "default": sample.name == first, "problem": sample.problem()}
        for sample in catalog.SAMPLES
    ]


def _write(name: str | None, folder: Path | None) -> dict[str, Any]:
    sample = catalog.available()[0] if name is None else catalog.find(name)
    folder = folder or Path(sample.name)
    sample.write(folder)
    return {**_shown(sample), "folder": str(folder)}


def _shown(sample: Sample) -> dict[str, Any]:
    train = sample.shots * len(sample.trained)
    return {
        "name": sample.name,
        "title": sample.title,
        "classes": list(sample.trained),
        "new_classes": list(sample.new),
        "train_images": train,
        "test_images": sample.size - train,
        "license": sample.license,
        "credit": sample.credit,
    }


if __name__ == "__main__":
    sys.exit(main())
