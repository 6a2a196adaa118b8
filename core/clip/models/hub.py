"""Download of files from a model hub: resumable, and checked against the hub's hashes.

The hub is that of huggingface_hub: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and proxy variables apply.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.errors import ClipCiteError

PLAN = "download.json"
"""File in a download's folder: size and hash of each file, with which a later process continues."""
PART = ".part"
TIMEOUT_SECONDS = 30
MAX_FAILURES = 3
"""Maximum number of consecutive failures without a new byte."""
SPARE_BYTES = 50_000_000
"""Free disk space that a download must leave."""


@dataclass(frozen=True)
class Progress:
    """State of a download. The totals are 0 until the sizes are known."""

    done_bytes: int
    total_bytes: int


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
        commit = str(HfApi().model_info(repository, timeout=TIMEOUT_SECONDS).sha)
        files = _list_files(repository, commit)
        plan = {name: files[name] for name in choose(sorted(files))}
        _prepare(folder, plan)
        for name, file in plan.items():
            _fetch(hf_hub_url(repository, name, revision=commit), folder / name, file, repository)
    except ClipCiteError:
        raise
    except Exception as error:  # the hub's library raises errors of three HTTP libraries
        raise explain(error, repository, folder) from error
    return commit, list(plan)


def progress(folder: Path) -> Progress | None:
    """Return the state of the download in `folder`, by this or another process; None without a download."""
    try:
        plan = _read_plan(folder)
        sizes = [
            (path.stat().st_size if (path := _existing(folder / name)) else 0, file["size"])
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
    status = _status(error)
    if isinstance(error, GatedRepoError) or status == 403 or _error_code(error) == "GatedRepo":
        detail = (
            f"The hub denies access to {repository}: its licence must be accepted first. Accept it at "
            f"{hub}/{repository}, create an access token there, and set it as HF_TOKEN for the service."
        )
    elif isinstance(error, (EntryNotFoundError, KeyError)):
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
        broke = isinstance(error, (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError))
        event = f"The connection to the hub {hub} broke off" if broke else f"The hub {hub} can't be reached"
        detail = (
            f"{event} ({kind}). Check the network and the proxy, or set HF_ENDPOINT "
            "to a mirror. A download continues where it stopped. On a machine without a network, install the "
            "backbone from a folder: clipcite backbones import FOLDER."
        )
    return BackboneUnavailable(detail)


def _list_files(repository: str, commit: str) -> dict[str, dict[str, Any]]:
    """Return size and hash by file name: the SHA-256 of a large file, or git's SHA-1 of a small one."""
    tree = HfApi().list_repo_tree(repository, revision=commit, recursive=True)
    files = (entry for entry in tree if isinstance(entry, RepoFile))
    return {
        file.path: {"size": file.size, "hash": file.lfs.sha256 if file.lfs else file.blob_id}
        for file in files
    }


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
    missing = sum(file["size"] for file in together.values()) - done
    free = shutil.disk_usage(folder).free
    if missing and free < missing + SPARE_BYTES:
        raise BackboneUnavailable(
            f"The download needs {_megabytes(missing + SPARE_BYTES)} in {folder.parent}, but only "
            f"{_megabytes(free)} are free. Free disk space, or set CLIPCITE_CACHE to a folder on another "
            "disk."
        )


def _fetch(url: str, path: Path, file: dict[str, Any], repository: str) -> None:
    """Download one file, from where an earlier download stopped."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part, failures = _part(path), 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if before < file["size"] or not part.exists():
                _continue(url, part, before)
            break
        except httpx.TransportError:
            after = part.stat().st_size if part.exists() else 0
            failures = 0 if after > before else failures + 1
            if failures == MAX_FAILURES:
                raise
    if not _has_hash(part, file):
        part.unlink()
        raise BackboneUnavailable(
            f"{path.name} of {repository} arrived with other content than the hub states, and was discarded. "
            "Try again. If it fails again, a proxy or mirror alters the file: set HF_ENDPOINT to another one."
        )
    part.replace(path)


def _continue(url: str, part: Path, start: int) -> None:
    headers = {"Accept-Encoding": "identity"}
    if (token := get_token()) is not None:
        headers["Authorization"] = f"Bearer {token}"
    if start:
        headers["Range"] = f"bytes={start}-"
    with httpx.stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT_SECONDS
    ) as response:
        if response.status_code == 416:  # the part is longer than the file
            part.unlink(missing_ok=True)
        response.raise_for_status()
        # A server that ignores the range sends the file from its start.
        with part.open("ab" if response.status_code == 206 else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)


def _has_hash(part: Path, file: dict[str, Any]) -> bool:
    """Return whether the content has the hash that the hub states."""
    if len(file["hash"]) == 64:
        return sha256(part) == str(file["hash"])
    content = part.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == str(file["hash"])


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


def _error_code(error: Exception) -> str | None:
    """Return the hub's own code of an answer."""
    return error.response.headers.get("X-Error-Code") if isinstance(error, httpx.HTTPStatusError) else None


def _status(error: Exception) -> int | None:
    if isinstance(error, (HfHubHTTPError, httpx.HTTPStatusError)):
        return int(error.response.status_code)
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
