"""Backbones on a model hub: their repositories, and downloads that are resumed and checked.

A file is compared with the SHA-256 that the hub states. The hub is that of huggingface_hub: `HF_ENDPOINT`,
`HF_TOKEN`, `HF_HUB_OFFLINE` and proxy variables apply. `huggingface_hub.hf_hub_download` is not used, since
from version 2 on it deletes the part of an interrupted download. Its transfer, `http_get`, continues a part.
"""

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

from core.clip.config import STARTER
from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models.folder import WEIGHTS
from core.errors import ClipCiteError

disable_progress_bars()  # `progress` is known to other processes, too
constants.DOWNLOAD_CHUNK_SIZE = 1 << 20  # with 10 MiB, a slow connection shows no progress for minutes
HUB = "hf-hub:"
LOCAL = "local-dir:"
PLAN = "download.json"
"""File in a download's folder: size and ETag of each file, with which a later process continues."""
PART = ".part"
TIMEOUT_SECONDS = 30
SPARE_BYTES = 50_000_000
"""Free disk space that a download must leave."""


@dataclass(frozen=True)
class Progress:
    """State of a download. The totals are 0 until the sizes are known."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Source:
    """Origin of a backbone on the hub, and its architecture unless the repository describes it."""

    repository: str
    weights: str = WEIGHTS
    config: dict[str, Any] | None = None
    """Content of open_clip_config.json."""


def find_source(name: str) -> Source:
    """Return the origin of `Model/pretrained` or `hf-hub:organisation/name`. Nothing is downloaded.

    Raises:
        UnknownBackbone: there is no such name.
        BackboneUnavailable: open_clip knows no repository, only a pickle.
    """
    import open_clip  # with torch: verification and removal do without

    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise UnknownBackbone(f"{name!r} is not the name of a repository: {HUB}organisation/name.")
        return Source(repository)
    architecture, _, tag = name.partition("/")
    entry = open_clip.get_pretrained_cfg(architecture, tag) if tag else None
    model = open_clip.get_model_config(architecture)
    if not entry or model is None:
        raise UnknownBackbone(
            f"There is no backbone {name!r}. Use {STARTER!r}, Model/pretrained as `clipcite backbones list` "
            f"shows them (for example ViT-B-16/openai), {HUB}organisation/name or {LOCAL}FOLDER."
        )
    repository, _, weights = str(entry.get("hf_hub") or "").rpartition("/")
    if not repository:
        raise BackboneUnavailable(only_as(name, str(entry.get("url", "")).rpartition("/")[2]))
    # Weights such as OpenAI's were trained with QuickGELU; without this flag open_clip only warns.
    model["quick_gelu"] = bool(model.get("quick_gelu") or entry.get("quick_gelu"))
    fields = ("mean", "std", "interpolation", "resize_mode")
    preprocess = {field: entry[field] for field in fields if field in entry}
    safe = f"{Path(weights).stem}.safetensors" if weights else WEIGHTS
    return Source(repository, safe, {"model_cfg": model, "preprocess_cfg": preprocess})


def only_as(name: str, file: str) -> str:
    """Return the sentence on weights that only this file holds, which is a pickle."""
    return (
        f"The weights of {name!r} are only available as {file}. For safety only safetensors files are "
        "loaded; choose another backbone."
    )


def list_files(repository: str) -> tuple[str, list[str]]:
    """Return the newest commit of a repository and the names of its files, sorted."""
    info = HfApi().model_info(repository, timeout=TIMEOUT_SECONDS)
    commit = info.sha or constants.DEFAULT_REVISION
    # Mirrors of companies may lack one of the two ways to list files.
    listed = [file.rfilename for file in info.siblings or ()]
    return commit, sorted(listed or HfApi().list_repo_files(repository, revision=commit))


def download(
    repository: str, choose: Callable[[Sequence[str]], Sequence[str]], folder: Path
) -> tuple[str, list[str]]:
    """Download files of a repository into `folder`. Return the commit and the names of the files.

    An interrupted download continues where it stopped, unless the hub's file has changed since.

    Args:
        choose: selects from the names of all files in the repository.

    Raises:
        UnknownBackbone: the hub cannot have such a name.
        BackboneUnavailable: the repository, a file, the hub or the disk space is missing, or the content does
            not match the hub's hash.
    """
    try:
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled(repository)
        commit, listed = list_files(repository)
        names = choose(listed)
        urls = {name: hf_hub_url(repository, name, revision=commit) for name in names}
        files = {name: get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS) for name, url in urls.items()}
        plan = {name: {"size": file.size, "etag": file.etag} for name, file in files.items()}
        _prepare(folder, plan)
        for name, file in plan.items():
            _fetch(urls[name], folder / name, file, repository)
    except ClipCiteError:
        raise
    except Exception as error:  # the hub's library raises errors of three HTTP libraries
        raise explain(error, repository, folder) from error
    return commit, list(names)


def progress(folder: Path) -> Progress | None:
    """Return the state of the download in `folder`, by this or another process; None without a download."""
    try:
        plan = _read_plan(folder)
        sizes = [
            (path.stat().st_size if (path := _existing(folder / name)) else 0, file["size"] or 0)
            for name, file in plan.items()
        ]
    except OSError:  # a file was just renamed, or there is no download
        return None
    if not plan:
        return None
    return Progress(sum(done for done, _ in sizes), sum(size for _, size in sizes))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def explain(error: Exception, repository: str, folder: Path) -> ClipCiteError:
    """Return the error for an exception of a download, with its remedy."""
    hub, kind = constants.ENDPOINT, type(error).__name__
    if isinstance(error, HFValidationError):
        return UnknownBackbone(f"{repository!r} is not the name of a repository: organisation/name.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackboneUnavailable(
            f"The disk of {folder.parent} is full. Free disk space, or set CLIPCITE_CACHE to a folder on "
            "another disk. The download continues where it stopped."
        )
    status = int(error.response.status_code) if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError) or status == 403:
        detail = (
            f"The hub denies access to {repository}: its licence must be accepted first. Accept it at "
            f"{hub}/{repository}, create an access token there, and set it as HF_TOKEN for the service."
        )
    elif isinstance(error, EntryNotFoundError):
        detail = f"A file of {repository} is missing on the hub. Try again, or choose another backbone."
    elif isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        detail = (
            f"The hub {hub} has no repository {repository}, or it is private. Check the name. For a private "
            "repository, set a valid access token as HF_TOKEN for the service."
        )
    elif isinstance(error, OfflineModeIsEnabled):
        detail = (
            f"{repository} must be downloaded, but HF_HUB_OFFLINE forbids it. Unset the variable, or install "
            "the backbone from a folder: clipcite backbones import FOLDER."
        )
    elif status is not None:
        detail = (
            f"The hub {hub} answers with status {status}. Try again later, or set HF_ENDPOINT to a mirror."
        )
    elif isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        detail = (
            f"{error.filename} can't be written ({error.strerror}). Make the folder writable for the "
            "service, or set CLIPCITE_CACHE to another folder."
        )
    else:
        broke = kind in {"ReadError", "ReadTimeout", "RemoteProtocolError"}  # of httpx, or of its successor
        event = f"The connection to the hub {hub} broke off" if broke else f"The hub {hub} can't be reached"
        detail = (
            f"{event} ({kind}). Check the network and the proxy, or set HF_ENDPOINT "
            "to a mirror. A download continues where it stopped. On a machine without a network, install the "
            "backbone from a folder: clipcite backbones import FOLDER."
        )
    return BackboneUnavailable(detail)


def _prepare(folder: Path, plan: dict[str, dict[str, Any]]) -> None:
    """Write the plan, remove parts of files that have changed since, and check the free disk space."""
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_plan(folder)
    for name, file in before.items():
        if name in plan and plan[name] != file:
            for stale in (folder / name, _part(folder / name)):
                stale.unlink(missing_ok=True)
    together = {**before, **plan}
    _part(folder / PLAN).write_text(json.dumps(together), encoding="utf-8")
    _part(folder / PLAN).replace(folder / PLAN)
    done = sum(path.stat().st_size for name in together if (path := _existing(folder / name)))
    missing = sum(file["size"] or 0 for file in together.values()) - done
    free = shutil.disk_usage(folder).free
    if missing and free < missing + SPARE_BYTES:
        raise BackboneUnavailable(
            f"The download needs {_megabytes(missing + SPARE_BYTES)} in {folder.parent}, but only "
            f"{_megabytes(free)} are free. Free disk space, or set CLIPCITE_CACHE to a folder on another "
            "disk."
        )


def _fetch(url: str, path: Path, file: dict[str, Any], repository: str) -> None:
    """Download one file, from where an earlier download stopped, and compare it with the hub's SHA-256.

    The hub states one for large files only.
    """
    if path.exists():
        return
    part = _part(path)
    with part.open("ab") as opened:
        http_get(
            url,
            opened,
            resume_size=opened.tell(),
            headers=build_hf_headers(),
            expected_size=file["size"],
        )
    if re.fullmatch("[0-9a-f]{64}", file["etag"] or "") and sha256(part) != file["etag"]:
        part.unlink()
        raise BackboneUnavailable(
            f"{path.name} of {repository} arrived with other content than the hub states, and was discarded. "
            "Try again. If it fails again, a proxy or mirror alters the file: set HF_ENDPOINT to another one."
        )
    part.replace(path)


def _read_plan(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        plan: dict[str, dict[str, Any]] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return plan


def _existing(path: Path) -> Path | None:
    return next((file for file in (path, _part(path)) if file.exists()), None)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}{PART}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
