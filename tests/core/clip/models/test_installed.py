"""Backbones in the cache: downloaded, copied to another machine, verified and removed."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models import installed
from core.clip.models.backbone import load_backbone
from core.clip.models.folder import CONFIG, WEIGHTS
from tests.core.clip.families import SMALL, write_repository
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import RETRIES, Hub

NAME = "hf-hub:tests/tiny"


@pytest.fixture
def repository(hub: Hub, tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    make_tiny_backbone(folder)
    hub.add("tests/tiny", folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_it_is_downloaded_once(hub: Hub, repository: Path, cache: Path) -> None:
    folder = installed.install(NAME, cache)
    assert {path.name for path in folder.iterdir()} == {
        CONFIG,
        WEIGHTS,
        installed.MANIFEST,
    }
    requests = len(hub.requests)
    assert installed.install(NAME, cache) == folder
    load_backbone(NAME, cache=cache)
    assert len(hub.requests) == requests
    (found,) = installed.list_installed(cache)
    assert found.name == NAME
    assert found.source == f"tests/tiny@{hub.commit('tests/tiny')}"
    assert found.bytes == sum((repository / name).stat().st_size for name in found.files)
    assert [path.name for path in (cache / "backbones").iterdir() if path.is_dir()] == [folder.name]


def test_concurrent_processes_download_once(hub: Hub, repository: Path, cache: Path) -> None:
    hub.delay_seconds = 0.01
    processes = [
        multiprocessing.get_context("fork").Process(target=installed.install, args=(NAME, cache))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert hub.transfers() == [None]


def test_weights_that_are_no_safetensors_file(hub: Hub, repository: Path, cache: Path) -> None:
    (repository / WEIGHTS).write_bytes(b"<html>Please log in</html>")
    with pytest.raises(BackboneUnavailable, match="are no safetensors file"):
        installed.install(NAME, cache)
    assert installed.list_installed(cache) == []
    make_tiny_backbone(repository)
    installed.install(NAME, cache)


def test_a_repository_without_weights(repository: Path, cache: Path) -> None:
    (repository / WEIGHTS).unlink()
    with pytest.raises(BackboneUnavailable, match=r"holds no open_clip_model\.safetensors"):
        installed.install(NAME, cache)


def test_its_own_tokenizer_is_installed_with_it(
    hub: Hub, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SigLIP's tokenizer is in a repository of its own."""
    whole = write_repository(tmp_path / "whole", *SMALL["siglip2"])
    weights, tokenizer = tmp_path / "weights", tmp_path / "tokenizer"
    weights.mkdir()
    tokenizer.mkdir()
    for path in whole.iterdir():
        shutil.copy(path, weights if path.name.startswith("open_clip") else tokenizer)
    hub.add("tests/siglip", weights)
    hub.add("timm/ViT-B-16-SigLIP2", tokenizer)
    load_backbone("hf-hub:tests/siglip", cache=cache)
    hub.status = 503  # no further request
    tokens = load_backbone("hf-hub:tests/siglip", cache=cache).tokenizer(["a cat"])
    assert tokens.shape == (1, 64)


def test_a_copy_is_imported_without_a_network(
    hub: Hub, repository: Path, cache: Path, tmp_path: Path
) -> None:
    pulled = load_backbone(NAME, cache=cache)
    stick = shutil.copytree(installed.folder_of(NAME, cache), tmp_path / "stick")
    hub.status = 503
    imported = installed.import_folder(stick, tmp_path / "other")
    assert imported == installed.read(NAME, cache)
    assert load_backbone(NAME, cache=tmp_path / "other").sha256 == pulled.sha256


def test_a_damaged_copy_is_refused(repository: Path, cache: Path, tmp_path: Path) -> None:
    stick = shutil.copytree(installed.install(NAME, cache), tmp_path / "stick")
    content = bytearray((stick / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (stick / WEIGHTS).write_bytes(content)
    (stick / CONFIG).unlink()
    with pytest.raises(BackboneUnavailable) as caught:
        installed.import_folder(stick, tmp_path / "other")
    assert "open_clip_model.safetensors has another content" in caught.value.detail
    assert "open_clip_config.json is missing" in caught.value.detail
    assert installed.list_installed(tmp_path / "other") == []


def test_a_folder_of_open_clip_needs_a_name(repository: Path, cache: Path) -> None:
    with pytest.raises(UnknownBackbone, match="--name"):
        installed.import_folder(repository, cache)
    with pytest.raises(UnknownBackbone, match="no backbone"):
        installed.import_folder(repository, cache, "ViT-B-16/nonsense")
    installed.import_folder(repository, cache, NAME)
    assert load_backbone(NAME, cache=cache).image_size == 32
    with pytest.raises(BackboneUnavailable, match="already installed"):
        installed.import_folder(repository, cache, NAME)


def test_verify_names_what_was_altered(repository: Path, cache: Path) -> None:
    folder = installed.install(NAME, cache)
    assert installed.verify(NAME, cache) == []
    (folder / CONFIG).write_text("{}")
    assert installed.verify(NAME, cache) == [
        "open_clip_config.json has another content than at its installation."
    ]
    with pytest.raises(UnknownBackbone, match="clipcite backbones pull hf-hub:tests/other"):
        installed.verify("hf-hub:tests/other", cache)


def test_remove_deletes_partial_downloads_too(hub: Hub, repository: Path, cache: Path) -> None:
    hub.cuts = [1_000_000, *RETRIES]
    with pytest.raises(BackboneUnavailable):
        installed.install(NAME, cache)
    assert installed.remove(NAME, cache) > 1_000_000
    assert not [path for path in (cache / "backbones").iterdir() if path.is_dir()]
    with pytest.raises(UnknownBackbone, match="is not installed"):
        installed.remove(NAME, cache)


def test_a_damaged_manifest(repository: Path, cache: Path) -> None:
    (installed.install(NAME, cache) / installed.MANIFEST).write_text("{")
    with pytest.raises(BackboneUnavailable, match=r"backbone\.json can't be read"):
        load_backbone(NAME, cache=cache)


def test_a_read_only_cache_suffices_once_installed(repository: Path, cache: Path) -> None:
    installed.install(NAME, cache)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    load_backbone(NAME, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
