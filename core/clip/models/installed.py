"""Backbones installed in the cache: downloaded or imported once, each a folder that open_clip loads.

A later start needs no network, and a file that changes on the hub changes nothing here: adapted models are
bound to their backbone's weights.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models import hub
from core.clip.models.folder import (
    CLIP_MODEL_FILES,
    CLIP_MODEL_WEIGHTS,
    CONFIG,
    TOKENIZER_FILES,
    TOWER_CONFIG,
    WEIGHTS,
    check_safetensors,
    read_config,
)

FOLDER = "backbones"
"""Folder of the installed backbones below the cache."""
MANIFEST = "backbone.json"


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
    """Return the folder in which a backbone is or will be installed."""
    return cache.absolute() / FOLDER / quote(name, safe="").replace("%2F", "--")


def read(name: str, cache: Path) -> Installed | None:
    """Return an installed backbone, or None."""
    return _read(folder_of(name, cache))


def list_installed(cache: Path) -> list[Installed]:
    """Return all installed backbones, by name."""
    found = (_read(manifest.parent) for manifest in (cache / FOLDER).glob(f"[!.]*/{MANIFEST}"))
    return sorted((each for each in found if each is not None), key=lambda each: each.name)


def install(name: str, cache: Path) -> Path:
    """Return the folder of a backbone from the hub, after a download if it is not installed.

    Concurrent processes are safe: one of them downloads, and the folder appears complete, by a rename.

    Raises:
        UnknownBackbone: there is no such name.
        BackboneUnavailable: the download failed (`core.clip.models.hub`), or the weights are not safe.
    """
    folder = folder_of(name, cache)
    if read(name, cache) is not None:
        return folder
    source = hub.find_source(name)
    with _building(folder) as partial:
        if partial is not None:
            commit = _download(name, source, partial)
            _publish(partial, folder, name, f"{source.repository}@{commit}")
    return folder


def check_source(name: str) -> None:
    """Raise the reason why no download of the backbone can succeed. A hub that does not answer is none.

    Raises:
        UnknownBackbone: there is no such name.
        BackboneUnavailable: the weights are not safe.
    """
    source = hub.find_source(name)
    try:
        _, names = hub.list_files(source.repository)
    except Exception:  # the hub's library raises errors of three HTTP libraries
        return
    _choose_files(name, source, names)


def import_folder(folder: Path, cache: Path, name: str | None = None) -> Installed:
    """Install a backbone from a folder that `install` made elsewhere, or of open_clip or `transformers`.

    Args:
        name: name of the backbone. It may be left out for a folder with a manifest.

    Raises:
        UnknownBackbone: the name is missing or unknown, or the folder is of no known kind.
        BackboneUnavailable: a file is missing or has another SHA-256 than its manifest states.
    """
    if not folder.is_dir():
        raise UnknownBackbone(f"{folder} is not a folder. Give the folder that holds the backbone's files.")
    made = _read(folder)
    name = name or (made.name if made else None)
    if name is None:
        raise UnknownBackbone(
            f"{folder} has no {MANIFEST}, so it does not state which backbone it is. Give its name as "
            "`clipcite backbones` lists it: --name ViT-B-16/openai."
        )
    source = hub.find_source(name)
    problems = _differences(folder, made) if made else []
    if problems:
        raise BackboneUnavailable(f"{folder} is damaged: {' '.join(problems)} Copy it again.")
    target = folder_of(name, cache)
    with _building(target) as partial:
        if partial is None:
            raise BackboneUnavailable(
                f"{name} is already installed. To replace it: clipcite backbones remove {name}"
            )
        try:
            kind = {CONFIG, WEIGHTS, TOWER_CONFIG, *TOKENIZER_FILES}
            for file in sorted(kind if (folder / WEIGHTS).exists() else CLIP_MODEL_FILES):
                if (folder / file).is_file():
                    shutil.copyfile(folder / file, partial / file)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise hub.explain(error, name, target) from error
        _complete(name, source.config, partial)
        _publish(partial, target, name, made.source if made else f"imported from {folder.name}")
    imported = read(name, cache)
    assert imported is not None
    return imported


def verify(name: str, cache: Path) -> list[str]:
    """Return a sentence for each file that is missing or was altered since the installation.

    Raises UnknownBackbone if the backbone is not installed.
    """
    return _differences(folder_of(name, cache), _require(name, cache))


def remove(name: str, cache: Path) -> int:
    """Delete an installed or partly downloaded backbone. Return the freed disk space (bytes).

    Raises UnknownBackbone if there is nothing to delete.
    """
    folder = folder_of(name, cache)
    existing = [path for path in (folder, _partial(folder)) if path.is_dir()]
    if not existing:
        _require(name, cache)
    freed = sum(file.stat().st_size for path in existing for file in path.rglob("*") if file.is_file())
    for path in existing:
        shutil.rmtree(path)
    return freed


def progress(name: str, cache: Path) -> hub.Progress | None:
    """Return the state of a download by any process, or None without one."""
    return hub.progress(_partial(folder_of(name, cache)))


def _choose_files(name: str, source: hub.Source, names: Sequence[str]) -> list[str]:
    """Return the files of a repository that the backbone needs.

    Raises:
        BackboneUnavailable: the repository has no safe weights.
    """
    if source.weights in names and (source.config is not None or CONFIG in names):
        return [source.weights] if source.config is not None else [CONFIG, source.weights]
    if source.config is None and {TOWER_CONFIG, CLIP_MODEL_WEIGHTS} <= {*names}:
        return [file for file in CLIP_MODEL_FILES if file in names]
    pickle = next((file for file in names if file.endswith((".bin", ".pt", ".pth", ".npz"))), None)
    if pickle is not None:
        raise BackboneUnavailable(hub.only_as(name, pickle))
    raise BackboneUnavailable(
        f"The repository {source.repository} holds no {source.weights}. Choose another backbone."
    )


def _download(name: str, source: hub.Source, partial: Path) -> str:
    """Download everything that the backbone needs, and return the commit of the weights."""
    commit, _ = hub.download(source.repository, lambda names: _choose_files(name, source, names), partial)
    if source.weights != WEIGHTS and (partial / source.weights).exists():
        (partial / source.weights).replace(partial / WEIGHTS)
    text = _complete(name, source.config, partial)["model_cfg"]["text_cfg"]
    if "hf_tokenizer_name" in text:
        hub.download(
            text["hf_tokenizer_name"],
            lambda names: sorted(TOKENIZER_FILES.intersection(names)),
            partial,
        )
    if "hf_model_name" in text:
        hub.download(text["hf_model_name"], lambda _: [TOWER_CONFIG], partial)
    return commit


def _complete(name: str, config: dict[str, Any] | None, partial: Path) -> dict[str, Any]:
    """Bring the files into open_clip's layout, and return the content of its configuration."""
    if not (partial / WEIGHTS).exists() and (partial / CLIP_MODEL_WEIGHTS).exists():
        from core.clip.models import transformers_clip

        transformers_clip.convert(partial)
    if config is not None:
        (partial / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    content = read_config(partial, name)
    check_safetensors(partial / WEIGHTS, name)
    return content


@contextmanager
def _building(folder: Path) -> Iterator[Path | None]:
    """Yield a folder to fill, which no other process fills meanwhile; None if the backbone is installed."""
    partial = _partial(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the end of the process, too
            if (folder / MANIFEST).is_file():
                yield None
                return
            partial.mkdir(exist_ok=True)
            yield partial
    except OSError as error:
        raise hub.explain(error, folder.name, folder) from error


def _publish(partial: Path, folder: Path, name: str, source: str) -> None:
    (partial / hub.PLAN).unlink(missing_ok=True)
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hub.sha256(path)}
        for path in sorted(partial.iterdir())
    }
    content = json.dumps(asdict(Installed(name, source, files)), indent=2)
    (partial / MANIFEST).write_text(content, encoding="utf-8")
    if folder.exists():  # without a manifest, so it is not an installed backbone
        shutil.rmtree(folder)
    partial.rename(folder)


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _read(folder: Path) -> Installed | None:
    try:
        return Installed(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise BackboneUnavailable(
            f"{folder / MANIFEST} can't be read ({type(error).__name__}). Install the backbone again."
        ) from error


def _require(name: str, cache: Path) -> Installed:
    installed = read(name, cache)
    if installed is None:
        raise UnknownBackbone(f"{name} is not installed. To install it: clipcite backbones pull {name}")
    return installed


def _differences(folder: Path, installed: Installed) -> list[str]:
    problems = []
    for name, file in installed.files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing.")
        elif path.stat().st_size != file["size"] or hub.sha256(path) != file["sha256"]:
            problems.append(f"{name} has another content than at its installation.")
    return problems
