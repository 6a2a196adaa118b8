"""`clipcite sort` on the running service."""

import csv
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from clipcite import Client, Job
from clipcite.cli.main import app
from clipcite.sorting.log import Log
from tests.clipcite.painted import paint
from tests.clipcite.sorting.sorted_folder import state
from tests.service.running import Service, wait_for


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with 12 images, unlike those of the model, and one that can't be read."""
    for name in ("red", "green", "blue"):
        for path in paint(tmp_path, f"photos/{name}", 4):
            image = Image.open(path)
            image.paste((200, 200, 200), (0, 0, 10 + 8 * int(path.stem), 30))
            image.save(path)
    (tmp_path / "photos/broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def log_of(into: Path) -> Path:
    (log,) = into.glob("*.jsonl")
    return log


def test_plans_asks_sorts_and_undoes(call: Any, photos: Path, taught: Job) -> None:
    before, into, table = state(photos), photos.with_name("photos-sorted"), photos.with_name("a.csv")
    command = ("sort", photos, "-m", taught.model_id, "--unsure", 0, "--csv", table)
    planned = call(*command, status=1)  # nobody says yes
    assert "Copy 12 images into" in planned.stderr
    assert planned.stdout.split()[-3:] == ["unreadable", "1", "stays"]
    assert [path.suffix for path in into.iterdir()] == [".jsonl"]
    done = call(*command, "--yes", status=1)  # the unreadable one
    assert f"Continues {log_of(into)}." in done.stderr
    assert "Copied 12 images." in done.stdout
    rows = {Path(row["file"]): row for row in csv.DictReader(table.open())}
    assert len(rows) == 13
    for path, row in rows.items():
        if path.name == "broken.jpg":
            assert (row["class"], row["target"]) == ("", "")
        else:
            assert Path(row["target"]).read_bytes() == path.read_bytes()
            assert Path(row["target"]).parent == into / row["class"]
            assert {row["class"], row["second class"]} == {"red", "green"}
            assert 0.5 <= float(row["probability"]) <= 1
    assert "Undone" in call("sort", "--undo", log_of(into)).stdout
    assert (state(photos), list(into.iterdir())) == (before, [log_of(into)])


def test_unsure_images_and_another_model(call: Any, photos: Path, taught: Job) -> None:
    into = photos.with_name("sorted")
    options = ("--into", into, "--yes")
    done = call("sort", photos, "-m", taught.model_id, "--unsure", 1, *options, status=1)
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [
        ["unsure", "12"],
        ["unreadable", "1"],
    ]
    first = log_of(into)
    done = call("sort", photos, "-c", "red,blue", "--move", "--unsure", 0, *options, status=1)
    assert f"clipcite sort --undo {first}" in done.stderr
    assert len(list(photos.rglob("*.png"))) == 0
    second = max(into.glob("*.jsonl"))
    call("sort", "--undo", second)
    assert len(list(photos.rglob("*.png"))) == 12
    assert "clipcite sort" in call("sort", "--undo", photos / "red/0.png", status=2).stderr


def test_a_killed_command_continues(service: Service, call: Any, taught: Job, tmp_path: Path) -> None:
    """Of 300 images, only those without an answer are asked again."""
    for number in range(300):
        Image.new("RGB", (32, 32), (number % 256, 40, number // 2)).save(tmp_path / f"{number}.png")
    into = tmp_path.with_name(f"{tmp_path.name}-sorted")
    command = ["sort", str(tmp_path), "-m", str(taught.model_id), "--move", "--unsure", "0", "--yes"]
    environment = {**os.environ, "CLIPCITE_URL": service.url}
    process = subprocess.Popen([sys.executable, "-m", "clipcite.cli.main", *command], env=environment)

    def answers() -> int:
        return sum(log.read_text().count('"ranked"') for log in into.glob("*.jsonl"))

    wait_for(lambda: answers() > 60 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = answers()
    done = call(*command)
    assert "Continues" in done.stderr
    assert kept < 300 or process.returncode == 0
    assert answers() == 300
    assert len(list(into.rglob("*.png"))) == 300
    call("sort", "--undo", log_of(into))
    assert len(list(tmp_path.glob("*.png"))) == 300


def test_labels_decide_and_teach(service: Service, photos: Path, learner: Job, monkeypatch: Any) -> None:
    monkeypatch.setenv("CLIPCITE_URL", service.url)
    table = photos.with_name("a.csv")

    def sort(model: str, label: int, *typed: str) -> Result:
        command = ("sort", photos, "-m", model, "--label", label, "--unsure", 0, "--csv", table)
        return CliRunner().invoke(app, [str(each) for each in command], input="\n".join([*typed, ""]))

    typed = ["blue", "y", "2", "s", "q", "y", *["q", "y"]]  # trained once, then no more labels
    done = sort(learner.model_id or "", 4, *typed)
    assert done.exit_code == 1, done.output  # the unreadable image
    assert len(re.findall(r"Perhaps \d+ of 12 are still wrong\.", done.stderr)) == 2
    asked = re.findall(r"\[\d/4\] (\S+\.png)", done.stderr)
    rows = {row["file"]: row for row in csv.DictReader(table.open())}
    assert [rows[file]["class"] for file in asked[:2]] == ["blue", "red"]
    assert Path(rows[asked[0]]["target"]).parent.name == "blue"
    assert asked[4] not in asked[:2]
    first, second = sorted(photos.with_name("photos-sorted").glob("*.jsonl"))
    new = Log(second).subject["model"]
    with Client(service.url) as client:
        assert {*client.models.get(new).trained_classes} == {"blue", "green", "red"}
        kept = client.models.get(learner.model_id or "").feedback()
    assert sorted(each.class_name for each in kept) == ["blue", "red"]
    assert Log(second).labels == Log(first).labels
    again = sort(new, 40, "q")  # suggested although the log has all answers
    assert re.findall(r"\[1/10\] (\S+\.png)", again.stderr) == [asked[4]]


def test_memory_does_not_grow_with_the_images(call: Any, taught: Job, tmp_path: Path) -> None:
    for number in range(80):
        Image.new("RGB", (700, 700), (number, 40, 80)).save(tmp_path / f"{number}.bmp")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 115_000_000
    tracemalloc.start()
    call("sort", tmp_path, "-m", taught.model_id, "--yes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 110_000_000


MISTAKES = [
    ((), 2, "must be a folder of images"),
    (("gone",), 2, "must be a folder of images"),
    (("{photos}",), 2, "needs --classes"),
    (("{photos}", "-c", "a", "--label", "3"), 2, "takes no --label"),
    (("{photos}", "-c", "a", "--copy", "--move"), 2, "exclude each other"),
    (("{photos}", "-m", "nosuch"), 5, "No model 'nosuch'."),
    (
        ("{photos}", "-c", "a,b", "--into", "{photos}/broken.jpg/x"),
        1,
        "Not a directory. The same command continues",
    ),
    (("{photos}", "-c", "a,b", "--url", "http://127.0.0.1:9"), 3, "Start it with `clipcite serve`"),
]


@pytest.mark.parametrize(("arguments", "status", "words"), MISTAKES, ids=str)
def test_mistakes(call: Any, photos: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    said = call("sort", *(each.format(photos=photos) for each in arguments), status=status)
    assert words in said.stderr
    assert "Traceback" not in said.output
