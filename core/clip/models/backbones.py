"""Backbones on this machine: their installation, and the folders that open_clip loads.

A backbone is installed once in the cache, by a download (`core.clip.models.download`, in a separate process)
or by an import. Later starts need no network. Changes on the hub have no effect here, because adapted models
work only with the weights of their backbone.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safetensors import SafetensorError, safe_open

from clipcite.types.backbones import DownloadProgress
from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models.open_clip_layout import (
    CLIP_MODEL_FILES,
    CLIP_MODEL_WEIGHTS,
    CONFIG,
    TOKENIZER_FILES,
    TOWER_CONFIG,
    WEIGHTS,
    convert_clip_model,
    read_config,
)
from core.clip.models.sources import Source, find_source

FOLDER = "backbones"
"""Folder of the installed backbones below the cache."""
MANIFEST = "backbone.json"
SPEED = "speed.json"
"""File with measurements of trainings on this machine, in the folder of a backbone."""
TOTAL = "total"
"""File in the folder of a download. It has the expected size (bytes)."""
VARIABLES = re.compile(
    r"PATH|HOME|TMPDIR|TZ|LANG|LC_\w+|LD_LIBRARY_PATH|XDG_CACHE_HOME|HF_\w+|(?i:\w+_proxy)|SSL_CERT_(FILE|DIR)|"
    r"(REQUESTS|CURL)_CA_BUNDLE|(CUDA|NVIDIA|OMP|MKL|OPENBLAS|TORCH|PYTORCH)_\w+"
)
"""Variables that a download gets: those of the hub, the network and the device, none of the service."""
MIN_SPARE_BYTES, SPARE_SHARE = 2_000_000_000, 0.05
"""Disk space that a download leaves free: at least this size (bytes), and this fraction of the disk."""


@dataclass(frozen=True)
class Installed:
    """An installed backbone, as its manifest describes it."""

    name: str
    source: str
    """Repository and commit, or the folder of an import."""
    files: dict[str, dict[str, Any]]
    """`size` (bytes) and `sha256` by file name."""

    @property
    def bytes(self) -> int:
        return sum(file["size"] for file in self.files.values())


def folder_of(name: str, cache: Path) -> Path:
    """Return the folder for an installed backbone, which may not exist."""
    return cache.absolute() / FOLDER / quote(name, safe="").replace("%2F", "--")


def read(name: str, cache: Path) -> Installed | None:
    """Return an installed backbone, or None."""
    return _read(folder_of(name, cache))


def list_installed(cache: Path) -> list[Installed]:
    """Return all installed backbones, by name."""
    found = (_read(manifest.parent) for manifest in (cache / FOLDER).glob(f"[!.]*/{MANIFEST}"))
    return sorted((each for each in found if each is not None), key=lambda each: each.name)


def install(name: str, cache: Path) -> Path:
    """Return the folder of a backbone from the hub. Download it if it is not installed.

    Raises:
        UnknownBackbone: the name is unknown.
        BackboneUnavailable: the download failed, or the weights are not safe.
    """
    if read(name, cache) is None:
        find_source(name)
        finish(start(name, cache))
    return folder_of(name, cache)


def start(name: str, cache: Path, device: str = "") -> "subprocess.Popen[str]":
    """Start the process that downloads a backbone, checks its files and installs it.

    It ends when its standard input closes. Processes with the same cache take turns.

    Args:
        device: device on which to load the backbone and measure its training speed. Empty: do not load it.
    """
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
    # Without Xet the files grow as data arrives, which gives the progress.
    plain = {f"HF_HUB_DISABLE_{what}": "1" for what in ("XET", "TELEMETRY", "PROGRESS_BARS")}
    kept = {variable: value for variable, value in os.environ.items() if VARIABLES.fullmatch(variable)}
    return subprocess.Popen(
        [sys.executable, "-m", "core.clip.models.download", name, str(cache.absolute()), device],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**plain, **kept, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait until a process of `start` has ended, and return its output.

    Raises:
        BackboneUnavailable: the process failed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    said = process.stdout.read().strip()
    status = process.wait()
    process.stdin.close()
    if status:
        memory = "The usual cause is a lack of memory: close other programs, then try again."
        cause = memory if status < 0 else "The log has the reason."
        raise BackboneUnavailable(said or f"The download or the check ended with status {status}. {cause}")
    return said


def progress(name: str, cache: Path) -> DownloadProgress | None:
    """Return the state of a download by any process, or None if there is none in progress."""
    folder = _partial(folder_of(name, cache))
    if not folder.is_dir():
        return None
    done, total = 0, 0
    with suppress(OSError, ValueError):  # a file was just renamed, or there is no total yet
        done = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        total = int((folder / TOTAL).read_text())
    return DownloadProgress(done_bytes=min(done, total), total_bytes=total)


def import_folder(folder: Path, cache: Path, name: str | None = None) -> Installed:
    """Install a backbone from a folder of another installation, of open_clip or of `transformers`.

    Args:
        name: name of the backbone. A folder with a manifest does not need it.

    Raises:
        UnknownBackbone: the name is missing or unknown, or the kind of the folder is unknown.
        BackboneUnavailable: a file is missing, or does not match the SHA-256 in the manifest.
    """
    if not folder.is_dir():
        raise UnknownBackbone(f"{folder} is not a folder. Give the folder that holds the backbone's files.")
    made = _read(folder)
    name = name or (made.name if made else None)
    if name is None:
        raise UnknownBackbone(
            f"{folder} has no {MANIFEST}, so it does not state which backbone it is. Give its name as "
            "`clipcite backbones list --all` shows it: --name ViT-B-16/openai."
        )
    source = find_source(name)
    problems = _differences(folder, made) if made else []
    if problems:
        raise BackboneUnavailable(f"{folder} is damaged: {' '.join(problems)} Copy it again.")
    with building(folder_of(name, cache)) as partial:
        if read(name, cache) is not None:
            raise BackboneUnavailable(
                f"{name} is already installed. To replace it: clipcite backbones remove {name}"
            )
        kind = {CONFIG, WEIGHTS, TOWER_CONFIG, *TOKENIZER_FILES}
        for file in sorted(kind if (folder / WEIGHTS).exists() else CLIP_MODEL_FILES):
            if (folder / file).is_file():
                shutil.copyfile(folder / file, partial / file)
        complete(name, source, partial)
        return publish(partial, name, cache, made.source if made else f"imported from {folder.name}")


def kept_speed(name: str, cache: Path) -> dict[str, Any]:
    """Return what was measured of a backbone's trainings: `images_per_second` and `precision`, if known."""
    try:
        kept = json.loads((folder_of(name, cache) / SPEED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def keep_speed(name: str, cache: Path, measured: Mapping[str, Any]) -> None:
    """Keep measurements of a backbone's trainings. If they can't be written, they are made again."""
    folder = folder_of(name, cache)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPEED).write_text(json.dumps(measured), encoding="utf-8")


def verify(name: str, cache: Path) -> list[str]:
    """Return a sentence for each file that is missing or has changed since it was installed.

    Raises UnknownBackbone if the backbone is not installed.
    """
    return _differences(folder_of(name, cache), _require(name, cache))


def remove(name: str, cache: Path) -> int:
    """Delete an installed backbone. Return the freed disk space (bytes).

    Raises UnknownBackbone if it is not installed.
    """
    folder = folder_of(name, cache)
    if not folder.is_dir():
        _require(name, cache)
    paths = [
        path for path in (folder, _partial(folder)) if path.is_dir()
    ]  # a killed process leaves the second
    freed = sum(file.stat().st_size for path in paths for file in path.rglob("*") if file.is_file())
    for path in paths:
        shutil.rmtree(path)
    return freed


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill and rename to `folder`. Lock out other processes meanwhile.

    Readers never see an incomplete folder.

    Raises:
        BackboneUnavailable: the disk is full or read-only.
    """
    partial = _partial(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # also released when the process ends
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
            partial.mkdir()
            try:
                yield partial
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise disk_problem(error, folder.parent) from error


def complete(name: str, source: Source, partial: Path) -> dict[str, Any]:
    """Convert the files to open_clip's layout. Check the configuration and return its content."""
    if source.weights != WEIGHTS and (partial / source.weights).exists():
        (partial / source.weights).replace(partial / WEIGHTS)
    if not (partial / WEIGHTS).exists() and (partial / CLIP_MODEL_WEIGHTS).exists():
        convert_clip_model(partial, partial)
        for file in CLIP_MODEL_FILES:
            (partial / file).unlink(missing_ok=True)
    if source.config is not None:
        (partial / CONFIG).write_text(json.dumps(source.config, indent=2), encoding="utf-8")
    content = read_config(partial, name)
    try:
        with safe_open(partial / WEIGHTS, "np"):
            return content
    except SafetensorError as error:
        raise BackboneUnavailable(
            f"The weights of {name} are not a safetensors file, although their name says so. They were "
            "discarded. Choose another backbone, or another mirror in HF_ENDPOINT."
        ) from error


def converted(folder: Path, cache: Path) -> Path:
    """Return a folder that open_clip loads: the same one, or a converted copy of a CLIPModel below `cache`.

    The first use writes the copy. If the folder's files change, another copy is written.

    Raises:
        BackboneUnavailable: a CLIPModel can't be converted.
    """
    is_clip_model = (folder / TOWER_CONFIG).is_file() and (folder / CLIP_MODEL_WEIGHTS).is_file()
    if (folder / CONFIG).is_file() or not is_clip_model:
        return folder
    files = [(name, (folder / name).stat()) for name in CLIP_MODEL_FILES if (folder / name).is_file()]
    state = [(str(folder.absolute()), name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    target = cache.absolute() / f"transformers-{digest}"
    if not target.is_dir():
        with building(target) as partial:
            if not target.is_dir():  # another process has converted it meanwhile
                convert_clip_model(folder, partial)
                partial.rename(target)
    return target


def publish(partial: Path, name: str, cache: Path, source: str) -> Installed:
    """Install a complete folder. It replaces an earlier installation."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(partial.iterdir())
    }
    installed = Installed(name, source, files)
    (partial / MANIFEST).write_text(json.dumps(asdict(installed), indent=2), encoding="utf-8")
    folder = folder_of(name, cache)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return installed


def spare_bytes(folder: Path) -> int:
    """Return the disk space available to downloads into the folder (bytes). It may be negative."""
    disk = shutil.disk_usage(folder)
    return disk.free - int(max(MIN_SPARE_BYTES, SPARE_SHARE * disk.total))


def disk_problem(error: OSError, folder: Path) -> BackboneUnavailable:
    """Return the error for a file that can't be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        detail = f"The disk of {folder} is full. Free disk space"
    else:
        detail = f"{error.filename or folder} can't be written ({error.strerror}). Make it writable"
    return BackboneUnavailable(f"{detail}, or set CLIPCITE_CACHE to a folder on another disk.")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _read(folder: Path) -> Installed | None:
    try:
        return Installed(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise BackboneUnavailable(
            f"{folder / MANIFEST} can't be read ({type(error).__name__}). To install the backbone again: "
            "clipcite backbones pull NAME"
        ) from error


def _require(name: str, cache: Path) -> Installed:
    installed = read(name, cache)
    if installed is None:
        find_source(name)
        raise UnknownBackbone(f"{name} is not installed. `clipcite backbones pull {name}` installs it.")
    return installed


def _differences(folder: Path, installed: Installed) -> list[str]:
    problems = []
    for name, file in installed.files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing.")
        elif path.stat().st_size != file["size"] or sha256(path) != file["sha256"]:
            problems.append(f"{name} has changed since it was installed.")
    return problems
