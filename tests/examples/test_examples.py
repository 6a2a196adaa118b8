"""The examples, on real images and the running service."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from clipcite import Client
from core.clip.models.backbone import Backbone
from tests.drawings import load
from tests.service.running import Service

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create class folders of sample images: five each of birds and fruit."""
    folder = tmp_path_factory.mktemp("examples") / "drawings"
    for name in ("bird", "fruit"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            (folder / name / f"{number}.png").write_bytes(load(name, number))
    return folder


@pytest.fixture
def run(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Run":
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCITE_URL", service.url)
    monkeypatch.delenv("CLIPCITE_API_KEY", raising=False)
    return Run(monkeypatch, capsys)


class Run:
    """Runner of an example as a program; returns its output."""

    def __init__(self, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._output = output

    def __call__(self, name: str, *arguments: object) -> str:
        self._patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return self._output.readouterr().out


def test_photos_are_sorted(run: Run, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(drawings, tmp_path / "holiday")
    (folder / "broken.jpg").write_bytes(b"no image")
    said = run("sort_photos.py", folder, "--names", "a bird,a fruit", "--lead", 0)
    places = {path.relative_to(tmp_path / "holiday-sorted").parts[0] for path in sorted_files(tmp_path)}
    assert len(sorted_files(tmp_path)) == 11
    assert "unreadable" in places
    assert places <= {"a bird", "a fruit", "unreadable"}
    assert "unreadable: 1" in said
    shutil.rmtree(tmp_path / "holiday-sorted")
    monkeypatch.chdir(folder)
    assert "unsure: 10" in run("sort_photos.py", ".", "--names", "a bird,a fruit", "--lead", 1.01)


def sorted_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "holiday-sorted").rglob("*") if path.is_file()]


def test_doubtful_labels_are_listed(
    run: Run, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(drawings, tmp_path / "collection")
    shutil.copy2(next((folder / "bird").iterdir()), folder / "fruit" / "a bird.png")
    monkeypatch.chdir(folder)
    said = run("find_mislabelled.py", ".", "--epochs", 2)
    assert "of 11 images without findings" in said
    assert re.search(r"a bird\.png: .*label", said)
    assert "label issues" in said
    assert "Results per class" in (tmp_path / "collection-report.html").read_text()


def test_a_model_is_exported(run: Run, drawings: Path, service: Service, tmp_path: Path) -> None:
    images = [next((drawings / name).iterdir()) for name in ("bird", "fruit")]
    with Client(service.url) as client:
        model = (
            client.adapt(drawings, config={"epochs": 2, "evaluate": "none"}).wait(timeout=600).model_id or ""
        )
        names = ["bird", "fruit", "hat"]
        answer = client.classify(images, names, model=model, new_class_balance=0)
    printed = run("without_the_service.py", model, ",".join(names), *images).splitlines()
    for path, result, line in zip(images, answer.results, printed, strict=True):
        assert line.startswith(f"{path} ")
        shares = {name: int(share) for name, share in re.findall(r"(\w+) (\d+)%", line)}
        assert list(shares) == [one.class_name for one in result.predictions]
        assert list(shares.values()) == pytest.approx(
            [100 * one.probability for one in result.predictions], abs=1
        )
    assert run("without_the_service.py", "again", "bird,hat", images[0]).startswith(f"{images[0]} ")


def test_a_model_gets_images_upright(tmp_path: Path) -> None:
    preprocess = runpy.run_path(str(ROOT / "examples" / "without_the_service.py"))["preprocess"]
    how = {"size": [8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
    image = Image.linear_gradient("L").convert("RGB")
    image.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # The phone was rotated.
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    upright, phone = (preprocess(tmp_path / f"{name}.png", how) for name in ("upright", "phone"))
    assert phone == pytest.approx(upright, abs=0.02)


def test_the_method_in_one_file(backbone: Backbone, tmp_path: Path) -> None:
    """The program runs alone, and imports nothing of this project."""
    for name in ("bird", "fruit", "tool", "vehicle"):
        for part, numbers in (("train", range(3)), ("test", range(3, 5))):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in numbers:
                (folder / f"{number}.png").write_bytes(load(name, number))
    command = [ROOT / "examples" / "clip_cite.py", tmp_path / "images", "--model", backbone.name]
    settings = ["--epochs", "2", "--learning-rate", "1e-3", "--shots", "3", "--device", "cpu"]
    said = subprocess.run(
        [sys.executable, "-I", *map(str, command), *settings], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    lines = re.findall(
        r"^α = (0\.0|0\.5|1\.0): B (\d\.\d{3}), N (\d\.\d{3}), HM (\d\.\d{3})$", said.stdout, re.M
    )
    assert [alpha for alpha, *_ in lines] == ["0.0", "0.5", "1.0"]
    for _, b, n, hm in lines:
        assert float(hm) == pytest.approx(2 * float(b) * float(n) / (float(b) + float(n)), abs=2e-3)
    tree = ast.parse((ROOT / "examples" / "clip_cite.py").read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in modules} & {
        "api",
        "benchmarks",
        "clipcite",
        "core",
        "worker",
    }
