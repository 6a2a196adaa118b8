"""`python -m core.backbones`: install and check backbones in the cache of this machine's service.

Prints JSON, which `clipcite backbones` renders. `pull` also prints its progress, one JSON object per line.
"""

import argparse
import json
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from core.clip.config import RECIPES, resolve_config
from core.clip.models import hub, installed
from core.errors import ClipCiteError
from core.settings import get_settings

PROGRESS_SECONDS = 0.3
TYPICAL_CLASSES = 10
SMALL_MICRO_BATCH = 4


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.disable(logging.WARNING)  # open_clip warns that networks without weights are random
    try:
        result = options.do(get_settings().cache, options)
    except ClipCiteError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    _print(result)
    return 0


def list_backbones(cache: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the installed backbones, and those of open_clip that match the pattern."""
    import open_clip

    here = {backbone.name: backbone.bytes for backbone in installed.list_installed(cache)}
    known = [f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()]
    names = [name for name in known if _wanted(name, options.pattern) and name not in here]
    return [_describe(name, here.get(name)) for name in [*here, *names]]


def pull(cache: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Download, check and load a backbone."""
    done = threading.Event()
    reporter = threading.Thread(target=_report, args=(options.name, cache, done), daemon=True)
    reporter.start()
    try:
        folder = installed.install(options.name, cache)
    finally:
        done.set()
        reporter.join()
    return {**_check(options.name, cache), "folder": str(folder)}


def import_folder(cache: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Install a backbone from a folder, and load it."""
    name = installed.import_folder(options.folder, cache, options.name).name
    return {**_check(name, cache), "folder": str(installed.folder_of(name, cache))}


def verify(cache: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare the files of installed backbones with their hashes."""
    names = options.names or [backbone.name for backbone in installed.list_installed(cache)]
    return [{"name": name, "problems": installed.verify(name, cache)} for name in names]


def remove(cache: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Delete an installed backbone."""
    return {"name": options.name, "freed_bytes": installed.remove(options.name, cache)}


def _check(name: str, cache: Path) -> dict[str, Any]:
    """Load an installed backbone. Its tensors must fit the architecture, and its tokenizer must work.

    A backbone that cannot be loaded is removed again.
    """
    from core.clip.models.backbone import load_backbone

    try:
        backbone = load_backbone(name, cache=cache)
        backbone.tokenize(["a photo of a dog"])
    except ClipCiteError:
        installed.remove(name, cache)
        raise
    found = installed.read(name, cache)
    assert found is not None
    return {"name": name, "source": found.source, "bytes": found.bytes, "sha256": backbone.sha256}


def _wanted(name: str, pattern: str | None) -> bool:
    """Return whether a name matches the pattern. Without one, backbones with a recipe of their own do."""
    if pattern is not None:
        return fnmatchcase(name.lower(), pattern.lower())
    return any(fnmatchcase(name, recipe) for recipe, _ in RECIPES if recipe != "*")


def _describe(name: str, installed_bytes: int | None) -> dict[str, Any]:
    """Return the size of a backbone on disk and in memory; None where only the hub knows the shape."""
    from core.clip.models.sizes import size_of

    config = resolve_config(backbone=name)
    row: dict[str, Any] = {
        "name": name,
        "installed": installed_bytes is not None,
        "bytes": installed_bytes,
        "parameters": None,
        "serving_bytes": None,
        "training_bytes": None,
        "small_training_bytes": None,
    }
    size = None if name.startswith(hub.HUB) else size_of(name.partition("/")[0])
    if size is not None:
        images = min(config.batch_size, config.micro_batch_size or config.batch_size)
        row |= {
            "bytes": installed_bytes or size.file_bytes,
            "parameters": size.parameters,
            "serving_bytes": size.serving_bytes,
            "training_bytes": size.training_bytes(images, TYPICAL_CLASSES),
            "small_training_bytes": size.training_bytes(SMALL_MICRO_BATCH, TYPICAL_CLASSES),
        }
    return row


def _report(name: str, cache: Path, done: threading.Event) -> None:
    """Print the progress of a download until it is done."""
    while not done.wait(PROGRESS_SECONDS):
        progress = installed.progress(name, cache)
        if progress is not None:
            _print(vars(progress))


def _print(content: Any) -> None:
    sys.stdout.write(f"{json.dumps(content)}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="core.backbones", description="Manage backbones in the cache.")
    commands = parser.add_subparsers(required=True)

    def add(name: str, do: Callable[[Path, argparse.Namespace], Any]) -> argparse.ArgumentParser:
        command = commands.add_parser(name)
        command.set_defaults(do=do)
        return command

    add("list", list_backbones).add_argument("pattern", nargs="?")
    add("pull", pull).add_argument("name")
    importing = add("import", import_folder)
    importing.add_argument("folder", type=Path)
    importing.add_argument("--name")
    add("verify", verify).add_argument("names", nargs="*")
    add("remove", remove).add_argument("name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
