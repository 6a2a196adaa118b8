"""`clipcite sort` on the running service."""

import asyncio
import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mcp
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from clipcite import APIConnectionError, Client, Job, Model
from clipcite.__main__ import app
from clipcite.bridges.mcp import make_server
from clipcite.sorting import asking
from clipcite.sorting.log import Log, locked
from tests.clipcite.painted import paint
from tests.clipcite.sorting.sorted_folder import log_of, state
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


def test_plans_asks_sorts_and_undoes(call: Any, photos: Path, taught: Job) -> None:
    before, into, table = state(photos), photos.with_name("photos-sorted"), photos.with_name("a.csv")
    command = ("sort", photos, "-m", taught.model_id, "--unsure", 0, "--no-reject", "--csv", table)
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
            assert row["error"]
            assert f"unreadable  {path}: {row['error']}\n" in planned.stderr
        else:
            assert Path(row["target"]).read_bytes() == path.read_bytes()
            assert Path(row["target"]).parent == into / row["class"]
            assert row["error"] == ""
            assert {row["class"], row["second class"]} == {"red", "green"}
            assert 0.5 <= float(row["probability"]) <= 1
    assert "Undone" in call("sort", "--undo", log_of(into)).stdout
    assert (state(photos), list(into.iterdir())) == (before, [log_of(into)])


def test_unsure_images_and_another_model(call: Any, photos: Path, taught: Job) -> None:
    into = photos.with_name("sorted")
    options = ("--into", into, "--yes")
    command = ("sort", photos, "-m", taught.model_id, "--no-reject")
    done = call(*command, "--unsure", 1, *options, status=1)
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


def test_a_photo_replaced_by_one_of_equal_size_and_time_is_asked_for_again(
    service: Service, call: Any, taught: Job, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    photo, table = tmp_path / "photos/a.bmp", tmp_path / "a.csv"
    command = (
        "sort",
        tmp_path / "photos",
        "-m",
        taught.model_id,
        "--unsure",
        0,
        "--no-reject",
        "--csv",
        table,
    )
    found = []
    for colour in ((200, 40, 40), (40, 160, 40)):
        Image.new("RGB", (32, 32), colour).save(photo)
        os.utime(photo, ns=(10**18, 10**18))
        call(*command, status=1)  # nobody says yes
        found += [row["class"] for row in csv.DictReader(table.open())]
    assert found == ["red", "green"]
    (log,) = (tmp_path / "photos-sorted").glob("*.jsonl")
    assert len(Log(log).answers) == 1


def test_the_log_of_class_names_is_of_one_backbone(service: Service, call: Any, photos: Path) -> None:
    """Features of another default backbone can't be compared with those in the log."""
    call("sort", photos, "-c", "red,blue", "--unsure", 0, status=1)
    with Client(service.url) as client:
        assert Log(log_of(photos.with_name("photos-sorted"))).subject["backbone"] == client.ready().backbone


def test_a_killed_command_continues(service: Service, call: Any, taught: Job, tmp_path: Path) -> None:
    """Of 300 images, only those without a prediction are sent again."""
    for number in range(300):
        Image.new("RGB", (32, 32), (number % 256, 40, number // 2)).save(tmp_path / f"{number}.png")
    into = tmp_path.with_name(f"{tmp_path.name}-sorted")
    command = ["sort", str(tmp_path), "-m", str(taught.model_id), "--move", "--unsure", "0", "--yes"]
    environment = {**os.environ, "CLIPCITE_URL": service.url}
    process = subprocess.Popen([sys.executable, "-m", "clipcite", *command], env=environment)

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
    # before the labels, with them, and after the training
    assert len(re.findall(r"Perhaps \d+ of 12 are still wrong", done.stderr)) == 3
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


def test_labels_are_sent_later_or_count_in_the_sort_alone(
    service: Service, photos: Path, learner: Job, monkeypatch: Any
) -> None:
    """After a lost connection the next run sends them. Without the model's job, nothing can store them."""
    monkeypatch.setenv("CLIPCITE_URL", service.url)
    table = photos.with_name("a.csv")
    command = ["sort", str(photos), "-m", str(learner.model_id), "--unsure", "0", "--csv", str(table)]

    def sort(label: int, *typed: str) -> Result:
        return CliRunner().invoke(app, [*command, "--label", str(label)], input="\n".join([*typed, ""]))

    def asked(done: Result) -> list[str]:
        return re.findall(r"\[\d+/\d+\] (\S+\.png)", done.stderr)

    def lost(*_: object) -> None:
        raise APIConnectionError("The connection was lost.")

    with monkeypatch.context() as patch:
        patch.setattr(Model, "add_feedback", lost)
        first = sort(2, "blue", "y", "3")  # the new class has a number for the next image
    assert first.exit_code == 3, first.output
    with Client(service.url) as client:
        model = client.models.get(learner.model_id or "")
        assert list(model.feedback()) == []
        sort(1, "q", "n")
        assert [each.class_name for each in model.feedback()] == ["blue"] * 2
        client.jobs.delete(learner.id)
    last = sort(1, "red", "q")
    assert last.exit_code == 1, last.output  # the unreadable image; nobody agreed to the plan
    assert "Your labels count in this sort, but the model can't train with them." in last.stderr
    assert "Train again" not in last.stderr
    rows = {row["file"]: row["class"] for row in csv.DictReader(table.open())}
    assert [rows[file] for file in [*asked(first), *asked(last)[:1]]] == ["blue", "blue", "red"]


def test_something_else_has_a_folder(call: Any, tmp_path: Path, taught: Job) -> None:
    """Blue images are none of the trained classes. JSON has the plan, and nothing is done without --yes."""
    for name in ("red", "green", "blue"):
        paint(tmp_path, f"pile/{name}", 4)
    into, table = tmp_path / "pile-sorted", tmp_path / "a.csv"
    command = ("sort", tmp_path / "pile", "-m", taught.model_id, "--unsure", 0)
    planned = json.loads(call(*command, "--json", "--csv", table, status=1).stdout)
    assert planned["done"] is False
    assert [path.suffix for path in into.iterdir()] == [".jsonl"]
    for image in planned["images"]:
        if Path(image["file"]).parent.name == "blue":
            assert (image["class"], image["something_else"]) == ("something else", True)
            assert (image["probability"], Path(image["target"]).parent) == (None, into / "something else")
    known = [image["class"] for image in planned["images"] if not image["something_else"]]
    assert sorted({*known}) == ["green", "red"]
    assert len(known) >= 6
    rows = list(csv.DictReader(table.open()))
    assert {row["class"] for row in rows if row["folder"] == "blue"} == {"something else"}
    assert {(row["width"], row["height"], row["time"]) for row in rows} == {("48", "40", "")}
    everything = call(*command, "--no-reject", status=1)
    assert "something else" not in everything.stdout
    done = call(*command, "--yes")
    assert re.search(rf"^something else +{12 - len(known)} +{into}/something else", done.stdout, re.M)
    assert len(list((into / "something else").iterdir())) == 12 - len(known)
    finished = json.loads(call(*command, "--json", "--yes").stdout)
    assert (finished["done"], finished["left_alone"], finished["log"]) == (True, [], str(log_of(into)))
    call("sort", "--undo", log_of(into))


def test_labels_teach_the_pre_trained_model(service: Service, tmp_path: Path) -> None:
    """They count at once, even "none of these", although there is no model to train."""
    for name in ("red", "green", "blue"):
        paint(tmp_path, f"pile/{name}", 4)
    into, kinds = tmp_path / "pile-sorted", {"red": "RED", "green": "2", "blue": "x"}
    command = ["sort", str(tmp_path / "pile"), "-c", "red,green", "--label", "12", "--json"]
    environment = {"CLIPCITE_URL": service.url}
    for number in range(6):  # the service chooses the image, so each run answers the one that it asks
        asked = CliRunner().invoke(app, command, input="q\nn\n", env=environment)
        (file,) = re.findall(rf"\[1/{12 - number}\] (\S+\.png)", asked.stderr)
        typed = kinds[Path(file).parent.name]
        done = CliRunner().invoke(app, command, input=f"{typed}\nq\nn\n", env=environment)
        assert "Train again" not in done.stderr
        answer = json.loads(done.stdout[done.stdout.index("{") :])  # after the echo of what was typed
        image = next(image for image in answer["images"] if image["file"] == file)
        assert image["class"] == {"RED": "red", "2": "green", "x": "something else"}[typed]
    assert len(Log(log_of(into)).labels) == 6


@pytest.mark.parametrize("option", ["--label", "--check"])
def test_the_end_of_the_input_sorts_nothing(service: Service, photos: Path, option: str) -> None:
    """Only `q` ends the questions. The log keeps the answers before."""
    before = state(photos)
    command = ["sort", str(photos), "-c", "red,blue", option, "3", "--move", "--yes"]
    done = CliRunner().invoke(app, command, input="red\n", env={"CLIPCITE_URL": service.url})
    assert done.exit_code == 130, done.output
    assert done.stderr.endswith("\nStopped. The same command continues.\n")
    assert state(photos) == before
    log = Log(log_of(photos.with_name("photos-sorted")))
    assert [*{**log.labels, **log.checked}.values()] == ["red"]


def test_an_unreadable_folder_and_one_behind_a_link(
    call: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each card has a folder `lost+found`, which root alone can read. The images beside it are sorted."""
    (photos / "broken.jpg").unlink()
    (photos / "lost+found").mkdir()
    paint(photos.parent, "elsewhere/lost+found", 1)
    (photos / "link").symlink_to(photos.with_name("elsewhere"))
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    done = call("sort", photos, "-c", "red,blue", "--yes", status=1)
    lines = [line for line in done.stderr.splitlines() if "can't be read" in line]
    assert lines == [f"{photos}/lost+found can't be read. Change its permissions."]
    assert "Copied 12 images." in done.stdout
    said = " ".join(call("classify", photos, "-c", "red,blue", status=2).stderr.split())
    assert "no image at" not in said
    assert "lost+found can't be read. Change its permissions." in said


def test_memory_does_not_grow_with_the_images(call: Any, taught: Job, tmp_path: Path) -> None:
    for number in range(80):
        Image.new("RGB", (700, 700), (number, 40, 80)).save(tmp_path / f"{number}.bmp")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 115_000_000
    tracemalloc.start()
    call("sort", tmp_path, "-m", taught.model_id, "--yes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000  # one request has 32 images, 47 MB


def test_the_same_command_after_all_images_were_moved(call: Any, photos: Path, taught: Job) -> None:
    """Its last line was lost with the terminal, for example."""
    (photos / "broken.jpg").unlink()
    before = state(photos)
    command = ("sort", photos, "-m", taught.model_id, "--move", "--yes")
    call(*command)
    again = call(*command)
    assert "Moved 0 images." in again.stdout
    assert str(log_of(photos.with_name("photos-sorted"))) in again.stdout
    call("sort", "--undo", log_of(photos.with_name("photos-sorted")))
    assert state(photos) == before


def test_one_command_at_a_time(call: Any, service: Service, photos: Path, taught: Job) -> None:
    """A second sort, an assistant's and an undoing wait while one is running."""
    into = photos.with_name("photos-sorted")
    command = ("sort", photos, "-m", taught.model_id, "--unsure", 0, "--yes")
    call(*command, status=1)
    before = state(photos, into)
    with locked(photos), Client(service.url) as client:
        for again in (command, ("sort", "--undo", log_of(into))):
            assert (
                "Another sort of this folder is running. Wait until it ends." in call(*again, status=1).stderr
            )
        answer = _sort_by_assistant(client, photos, taught)
        assert "Another sort of this folder is running" in answer.content[0].text
    assert state(photos, into) == before
    call("sort", "--undo", log_of(into))


def test_two_sorts_into_one_new_folder(
    call: Any, photos: Path, taught: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into, second = tmp_path / "new", paint(tmp_path, "others/red", 2)[0].parent
    ask, said = asking.ask, list[str]()

    def ask_during_another_sort(*given: Any) -> None:
        said.append(call("sort", second, "-m", taught.model_id, "--into", into, "--yes", status=1).stderr)
        ask(*given)

    monkeypatch.setattr(asking, "ask", ask_during_another_sort)
    call("sort", photos, "-m", taught.model_id, "--into", into, "--unsure", 0, "--yes", status=1)
    assert "Another sort of this folder is running." in said[0]
    monkeypatch.undo()
    (tmp_path / "empty").mkdir()
    call("sort", tmp_path / "empty", "--into", tmp_path / "newer", "-c", "a,b", status=2)
    assert not (tmp_path / "newer").exists()


def test_an_assistant_continues_a_killed_sort(service: Service, photos: Path, taught: Job) -> None:
    """It removes what the killed one has left, and copies no image twice."""
    into = photos.with_name("photos-sorted")
    with Client(service.url) as client:
        _sort_by_assistant(client, photos, taught)
        after = state(into)
        (class_folder, *_) = [path for path in into.iterdir() if path.is_dir()]
        (class_folder / ".clipcite-x.part").write_bytes(b"half")
        next(class_folder.iterdir()).unlink()
        answer = _sort_by_assistant(client, photos, taught)
    assert answer.structured_content["failed"] == []
    assert state(into) == after


def _sort_by_assistant(client: Client, folder: Path, taught: Job) -> Any:
    async def call() -> Any:
        async with mcp.Client(make_server(client, folder.parent)) as assistant:
            return await assistant.call_tool("sort_folder", {"folder": folder.name, "model": taught.model_id})

    return asyncio.run(call())


def test_names_that_a_terminal_or_a_table_would_obey(
    call: Any, photos: Path, taught: Job, monkeypatch: Any
) -> None:
    """A name that isn't UTF-8 is escaped in the table, which an error leaves as it was."""
    table, into = photos.with_name("a.csv"), photos.with_name("photos-sorted")
    odd = photos / os.fsdecode(b"\xff\x1b[31m.png")
    odd.write_bytes((photos / "red/0.png").read_bytes())
    command = ("sort", photos, "-m", taught.model_id, "--unsure", 0, "--csv", table, "--yes")
    call(*command, "--move", status=1)
    assert "\\udcff\x1b[31m.png" in (written := table.read_text())
    odd.write_bytes(b"another one")
    done = call("sort", "--undo", log_of(into), status=1)
    assert "?[31m.png: Another file lies at its old place" in done.stderr
    assert "\x1b" not in done.output
    monkeypatch.setattr(Path, "replace", _no_space)
    done = call(*command, status=2)
    assert "No space left" in done.stderr
    assert table.read_text() == written
    assert not list(table.parent.glob(".a.csv*"))


def _no_space(*paths: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_damaged_log(call: Any, photos: Path, taught: Job) -> None:
    """What can be read is undone. The status says that there may be more."""
    into = photos.with_name("photos-sorted")
    command = ("sort", photos, "-m", taught.model_id, "--unsure", 0, "--move", "--yes")
    call(*command, status=1)
    with log_of(into).open("a") as file:
        file.write('\n{"do": "move", "from": "../../key.jpg", "to": "red/a.jpg"}\n{"do": "mo')
    for again, status in ((command, 1), (("sort", "--undo", log_of(into)), 1)):
        assert f"Skipped 2 damaged records of {log_of(into)}." in call(*again, status=status).stderr
    assert len(list(photos.rglob("*.png"))) == 12


def test_undo_asks_a_person(call: Any, photos: Path, taught: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log may come from a stranger: a person sees the folder that gets the images."""
    call("sort", photos, "-m", taught.model_id, "--unsure", 0, "--yes", status=1)
    asked = []
    monkeypatch.setattr("clipcite.sorting.command.confirm", lambda text, yes: asked.append((text, yes)))
    for yes in ([], ["--yes"]):
        call("sort", "--undo", log_of(photos.with_name("photos-sorted")), *yes)
    question = f"Undo the sort of 12 images of {photos}?"
    assert asked == [(question, False), (question, True)]


MISTAKES = [
    ((), 2, "must be a folder of images"),
    (("gone",), 2, "must be a folder of images"),
    (("{photos}",), 2, "Say how to sort: by a model (--model NAME"),
    (("{photos}", "-m", "stock", "--label", "3"), 2, "Say how to sort: by a model (--model NAME"),
    (("{photos}", "-c", "a", "--unsure", "101"), 2, "--unsure"),
    (("{photos}", "-c", "a", "--copy", "--move"), 2, "exclude each other"),
    (("/", "-c", "a"), 2, "--into: is needed: / has no name."),
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
