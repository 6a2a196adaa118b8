"""Backbones in the cache: downloaded, copied to another machine, verified and removed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models import backbones
from core.clip.models.backbone import load_backbone
from core.clip.models.open_clip_layout import CONFIG, WEIGHTS
from tests.core.clip.families import SMALL, write_repository
from tests.core.clip.tiny import make_tiny_backbone
from tests.hub import Hub
from tests.service.running import wait_for

NAME = "hf-hub:tests/tiny"
KILL = "import os; os.kill(os.getpid(), 9)"


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
    folder = backbones.install(NAME, cache)
    assert {path.name for path in folder.iterdir()} == {
        CONFIG,
        WEIGHTS,
        backbones.MANIFEST,
    }
    requests = len(hub.requests)
    assert backbones.install(NAME, cache) == folder
    load_backbone(NAME, cache=cache)
    assert len(hub.requests) == requests
    (found,) = backbones.list_installed(cache)
    assert found.name == NAME
    assert found.source == f"tests/tiny@{hub.commit('tests/tiny')}"
    assert found.bytes == sum((repository / name).stat().st_size for name in found.files)
    assert [path.name for path in (cache / "backbones").iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.slow
def test_concurrent_processes_download_once(hub: Hub, repository: Path, cache: Path) -> None:
    hub.delay_seconds = 0.01
    processes = [backbones.start(NAME, cache) for _ in range(2)]
    for process in processes:
        backbones.finish(process)
    assert hub.transfers() == [None]


@pytest.mark.slow
def test_a_download_ends_with_its_parent(hub: Hub, repository: Path, cache: Path) -> None:
    """What has arrived is deleted."""
    hub.delay_seconds = 0.1
    process = backbones.start(NAME, cache)
    wait_for(lambda: (now := backbones.progress(NAME, cache)) is not None and now.done_bytes > 1_000_000)
    size = sum(path.stat().st_size for path in repository.iterdir())
    assert backbones.progress(NAME, cache).total_bytes == size
    process.stdin.close()
    assert process.wait() == 1
    assert backbones.progress(NAME, cache) is None
    hub.delay_seconds = 0
    backbones.install(NAME, cache)


def test_a_download_has_no_secret_of_the_service(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CLIPCITE_DATABASE_URL",
        "CLIPCITE_ADMIN_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "https_proxy",
    ):
        monkeypatch.setenv(name, "secret")
    given: dict[str, str] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: given.update(options["env"]))
    backbones.start(NAME, cache)
    assert {name for name, value in given.items() if value == "secret"} == {"HF_TOKEN", "https_proxy"}


@pytest.mark.parametrize(("code", "cause"), [("raise SystemExit(3)", "The log"), (KILL, "a lack of memory")])
def test_a_process_without_last_words(code: str, cause: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pytest.raises(BackboneUnavailable, match=cause):
        backbones.finish(process)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("local-dir:X", "is a folder on the machine of the service"),
        ("local-dir:X/openai", "is a folder on the machine of the service"),
        ("resnet50", "There is no backbone 'resnet50'"),
        ("ViT-B-16/nonsense", "There is no backbone"),
        ("hf-hub:nobody", "is not the name of a repository"),
        ("starter", "needs no download"),
    ],
)
def test_names_that_nobody_can_download(name: str, sentence: str, cache: Path) -> None:
    for action in (backbones.install, backbones.remove, backbones.verify):
        with pytest.raises(UnknownBackbone, match=sentence):
            action(name, cache)


@pytest.mark.slow
def test_weights_that_are_not_a_safetensors_file(hub: Hub, repository: Path, cache: Path) -> None:
    (repository / WEIGHTS).write_bytes(b"<html>Please log in</html>")
    with pytest.raises(BackboneUnavailable, match="are not a safetensors file"):
        backbones.install(NAME, cache)
    assert backbones.list_installed(cache) == []
    assert backbones.progress(NAME, cache) is None


@pytest.mark.slow
def test_a_repository_without_weights(repository: Path, cache: Path) -> None:
    (repository / WEIGHTS).unlink()
    with pytest.raises(BackboneUnavailable, match=r"has no open_clip_model\.safetensors"):
        backbones.install(NAME, cache)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_copy_is_imported_without_a_network(
    hub: Hub, repository: Path, cache: Path, tmp_path: Path
) -> None:
    pulled = load_backbone(NAME, cache=cache)
    stick = shutil.copytree(backbones.folder_of(NAME, cache), tmp_path / "stick")
    hub.status = 503
    imported = backbones.import_folder(stick, tmp_path / "other")
    assert imported == backbones.read(NAME, cache)
    assert load_backbone(NAME, cache=tmp_path / "other").sha256 == pulled.sha256


@pytest.mark.slow
def test_a_damaged_copy_is_refused(repository: Path, cache: Path, tmp_path: Path) -> None:
    stick = shutil.copytree(backbones.install(NAME, cache), tmp_path / "stick")
    content = bytearray((stick / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (stick / WEIGHTS).write_bytes(content)
    (stick / CONFIG).unlink()
    with pytest.raises(BackboneUnavailable) as caught:
        backbones.import_folder(stick, tmp_path / "other")
    assert "open_clip_model.safetensors has changed" in caught.value.detail
    assert "open_clip_config.json is missing" in caught.value.detail
    assert backbones.list_installed(tmp_path / "other") == []


def test_a_folder_of_open_clip_needs_a_name(repository: Path, cache: Path) -> None:
    with pytest.raises(UnknownBackbone, match="--name"):
        backbones.import_folder(repository, cache)
    with pytest.raises(UnknownBackbone, match="no backbone"):
        backbones.import_folder(repository, cache, "ViT-B-16/nonsense")
    backbones.import_folder(repository, cache, NAME)
    assert load_backbone(NAME, cache=cache).image_size == 32
    with pytest.raises(BackboneUnavailable, match="already installed"):
        backbones.import_folder(repository, cache, NAME)


@pytest.mark.slow
def test_a_new_download_repairs_it(repository: Path, cache: Path) -> None:
    folder = backbones.install(NAME, cache)
    (folder / backbones.MANIFEST).write_text("{")
    with pytest.raises(BackboneUnavailable, match=r"backbone\.json can't be read"):
        load_backbone(NAME, cache=cache)
    backbones.finish(backbones.start(NAME, cache))
    assert backbones.verify(NAME, cache) == []


def test_a_read_only_cache_suffices_once_installed(repository: Path, cache: Path) -> None:
    backbones.install(NAME, cache)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    load_backbone(NAME, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
