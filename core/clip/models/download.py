"""`python -m core.clip.models.download NAME CACHE DEVICE`: the process that downloads one backbone.

It installs the backbone, or prints a sentence and ends with status 1. `huggingface_hub` transfers the files.
Its variables HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE apply, and so do variables for proxies. With an empty
DEVICE, the backbone is not loaded.
"""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models import backbones
from core.clip.models.backbones import TOTAL
from core.clip.models.open_clip_layout import (
    CLIP_MODEL_FILES,
    CLIP_MODEL_WEIGHTS,
    CONFIG,
    TOKENIZER_FILES,
    TOWER_CONFIG,
    read_config,
)
from core.clip.models.sources import Source, find_source, only_as
from core.errors import ExpectedError
from core.parent_watch import exit_with_parent

NICE = 10
"""Niceness of the process, because classifications come first."""
STOP_SECONDS = 5
"""Time to clean up after the parent has ended (seconds)."""
WATCH_SECONDS = 0.5
TIMEOUT_SECONDS = 30
COMMIT = re.compile("[0-9a-f]{40}")


def main() -> None:
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 20  # with 10 MiB, a slow connection shows no progress for minutes
    os.nice(NICE)
    exit_with_parent(grace_seconds=STOP_SECONDS)
    name, cache, device = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    try:
        with backbones.building(backbones.folder_of(name, cache)) as partial:
            if not _is_intact(name, cache):
                signal.signal(signal.SIGTERM, lambda *_: _give_up(partial, "The download was stopped."))
                threading.Thread(target=_watch_disk, args=(partial,), daemon=True).start()
                backbones.publish(partial, name, cache, download(name, partial))
        if device:
            from core.clip.models.backbone import check_installed  # imports torch

            sys.stdout.write(json.dumps(check_installed(name, cache, device)))
    except ExpectedError as error:
        sys.stdout.write(error.detail)
        sys.exit(1)


def download(name: str, folder: Path) -> str:
    """Download everything that a backbone needs, check it, and return its repository and commit.

    Args:
        folder: an empty folder.

    Raises:
        UnknownBackbone: the name is unknown.
        BackboneUnavailable: the repository or a file is missing, the hub is unreachable, the disk is full, a
            file does not match the hub's checksum, or the folder is not a safe backbone.
    """
    source = find_source(name)
    commit = fetch(source.repository, lambda names: _choose_files(name, source, names), folder)
    text = backbones.complete(name, source, folder)["model_cfg"]["text_cfg"]
    if "hf_tokenizer_name" in text:
        fetch(text["hf_tokenizer_name"], TOKENIZER_FILES.intersection, folder)
    if "hf_model_name" in text:
        fetch(text["hf_model_name"], {TOWER_CONFIG}.intersection, folder)
    read_config(folder, name)  # a second check, now with the text tower's configuration
    (folder / TOTAL).unlink()
    return f"{source.repository}@{commit}"


def fetch(repository: str, choose: Callable[[Iterable[str]], Collection[str]], folder: Path) -> str:
    """Download files of a repository into `folder`, and return the commit.

    The SHA-256 of large files must match the hub's.

    Args:
        choose: selects file names among those at the top of the repository.
    """
    try:
        commit = HfApi().model_info(repository, timeout=TIMEOUT_SECONDS).sha or ""
        if not COMMIT.fullmatch(commit):  # the library uses it as a path
            raise BackboneUnavailable(
                f"The hub {constants.ENDPOINT} names no valid commit of {repository}. Set HF_ENDPOINT to "
                "another mirror."
            )
        entries = HfApi().list_repo_tree(repository, revision=commit)
        files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
        names = choose(files)
        if not names:
            raise BackboneUnavailable(f"{repository} has none of the needed files. Choose another backbone.")
        size = sum(files[name].size for name in names)
        _check_room(folder.parent, size)
        done = sum(path.stat().st_size for path in folder.iterdir())
        (folder / TOTAL).write_text(str(done + size))
        snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=sorted(names))
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # metadata of the library
    except ExpectedError:
        raise
    except Exception as error:  # the hub's library raises errors of three HTTP libraries
        raise _explain(error, repository, folder) from error
    for name in names:
        stated = files[name].lfs
        if stated is not None and backbones.sha256(folder / name) != stated.sha256:
            raise BackboneUnavailable(
                f"{name} of {repository} does not match the hub's checksum, and was discarded. Try again. If "
                "it fails again, a proxy or mirror alters the file: set HF_ENDPOINT to another one."
            )
    return commit


def _is_intact(name: str, cache: Path) -> bool:
    try:
        return not backbones.verify(name, cache)
    except ExpectedError:  # not installed, or its manifest is damaged
        return False


def _choose_files(name: str, source: Source, files: Iterable[str]) -> list[str]:
    """Return the files of a repository that the backbone needs.

    Raises:
        BackboneUnavailable: the repository has no safe weights.
    """
    names = sorted(files)
    if source.weights in names and (source.config is not None or CONFIG in names):
        return [source.weights] if source.config is not None else [CONFIG, source.weights]
    if source.config is None and {TOWER_CONFIG, CLIP_MODEL_WEIGHTS} <= {*names}:
        return [file for file in CLIP_MODEL_FILES if file in names]
    pickle = next((file for file in names if file.endswith((".bin", ".pt", ".pth", ".npz"))), None)
    missing = f"The repository {source.repository} has no {source.weights}. Choose another backbone."
    raise BackboneUnavailable(only_as(name, pickle) if pickle else missing)


def _explain(error: Exception, repository: str, folder: Path) -> ExpectedError:
    """Return the error for an exception of a transfer, with its remedy."""
    hub = constants.ENDPOINT
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the library looked for a local copy
    if isinstance(error, HFValidationError):
        return UnknownBackbone(f"{repository!r} is not the name of a repository: organisation/name.")
    if isinstance(error, GatedRepoError):
        detail = (
            f"The hub denies access to {repository}: its licence must be accepted first. Accept it at "
            f"{hub}/{repository}, create an access token there, and set it as HF_TOKEN for the service."
        )
    elif isinstance(error, RepositoryNotFoundError):
        detail = (
            f"The hub {hub} has no repository {repository}, or it is private. Check the name. For a private "
            "repository, set a valid access token as HF_TOKEN for the service."
        )
    elif isinstance(error, HfHubHTTPError):
        detail = (
            f"The hub {hub} responds with status {error.response.status_code}. Try again later, check the "
            "access token in HF_TOKEN if there is one, or set HF_ENDPOINT to a mirror."
        )
    elif isinstance(error, OSError) and error.errno is not None and error.strerror is not None:
        return backbones.disk_problem(error, folder.parent)
    else:
        detail = (
            f"The hub {hub} can't be reached, or the connection broke off ({type(error).__name__}). Check "
            "the network, the proxy and HF_HUB_OFFLINE, or set HF_ENDPOINT to a mirror. On a machine without "
            "a network, install the backbone from a folder: clipcite backbones import FOLDER."
        )
    return BackboneUnavailable(detail)


def _check_room(cache: Path, size: int = 0) -> None:
    """Raise BackboneUnavailable if `size` more bytes would leave too little disk space."""
    if (lacking := size - backbones.spare_bytes(cache)) > 0:
        raise BackboneUnavailable(
            f"The disk of {cache} lacks {lacking / 1e9:.1f} GB for the download, which leaves "
            f"{backbones.SPARE_SHARE:.0%} of the disk and at least {backbones.MIN_SPARE_BYTES / 1e9:.0f} GB "
            "free. Free disk space, or set CLIPCITE_CACHE to a folder on another disk."
        )


def _watch_disk(partial: Path) -> None:
    """End the process when other programs fill the disk during the download."""
    while partial.is_dir():
        try:
            _check_room(partial.parent)
        except BackboneUnavailable as full:
            _give_up(partial, full.detail)
        time.sleep(WATCH_SECONDS)


def _give_up(partial: Path, reason: str) -> None:
    """Free the disk space, and end the process without waiting for the transfer's threads."""
    shutil.rmtree(partial, ignore_errors=True)
    sys.stdout.write(reason)
    sys.stdout.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
