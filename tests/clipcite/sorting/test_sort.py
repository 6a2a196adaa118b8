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

from clipcite import Client, Job, Pile
from clipcite.__main__ import app
from clipcite.bridges.mcp import make_server
from clipcite.sorting import folder_pile
from clipcite.sorting.log import locked
from tests.clipcite.painted import paint
from tests.clipcite.sorting.sorted_folder import log_of, state
from tests.service.running import Service, wait_for

pytestmark = pytest.mark.usefixtures("no_piles")


def piles(service: Service) -> list[Pile]:
    with Client(service.url) as client:
        return list(client.piles.list())


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


def test_plans_asks_sorts_and_undoes(service: Service, call: Any, photos: Path, taught: Job) -> None:
    before, into, table = state(photos), photos.with_name("photos-sorted"), photos.with_name("a.csv")
    command = ("sort", photos, "-m", taught.model_id, "--unsure", 0, "--csv", table)
    planned = call(*command, status=1)  # nobody says yes
    assert "Copy 12 images into" in planned.stderr
    assert "Not measured yet. `clipcite sort FOLDER --check 20` tells you" in planned.stdout
    assert [path.suffix for path in into.iterdir()] == [".jsonl"]
    (pile,) = piles(service)
    assert (pile.name, pile.model, pile.keeps_images) == ("photos", taught.model_id, False)
    done = call(*command, "--yes", status=1)  # the unreadable one
    assert "Continues the pile photos: 12 images, 0 labelled." in done.stderr
    assert "Copied 12 images." in done.stdout
    assert [each.id for each in piles(service)] == [pile.id]
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
            assert (row["error"], row["width"], row["height"], row["time"]) == ("", "48", "40", "")
            assert row["class"] in {"red", "green", "something else"}
            assert row["probability"] == "" or 0.5 <= float(row["probability"]) <= 1
    assert "Undone" in call("sort", "--undo", log_of(into)).stdout
    assert (state(photos), list(into.iterdir())) == (before, [log_of(into)])


def test_unsure_images_and_other_classes(service: Service, call: Any, photos: Path, taught: Job) -> None:
    """Other class names are another sort, with a pile and a log of its own."""
    into = photos.with_name("sorted")
    options = ("--into", into, "--yes")
    done = call("sort", photos, "-c", "good,bad", "--unsure", 1, *options, status=1)
    assert re.search(r"^unsure +12 ", done.stdout, re.M)
    assert re.search(r"^unreadable +1 +stays", done.stdout, re.M)
    first = log_of(into)
    done = call("sort", photos, "-c", "red,blue", "--move", "--unsure", 0, *options, status=1)
    assert f"clipcite sort --undo {first}" in done.stderr
    assert len(list(photos.rglob("*.png"))) == 0
    assert {tuple(pile.class_names) for pile in piles(service)} == {("good", "bad"), ("red", "blue")}
    second = max(into.glob("*.jsonl"))
    call("sort", "--undo", second)
    assert len(list(photos.rglob("*.png"))) == 12
    assert "clipcite sort" in call("sort", "--undo", photos / "red/0.png", status=2).stderr


def test_a_photo_replaced_by_one_of_equal_size_and_time_is_sorted_anew(
    service: Service, call: Any, taught: Job, tmp_path: Path
) -> None:
    """A file is known by its content."""
    (tmp_path / "photos").mkdir()
    photo, table = tmp_path / "photos/a.bmp", tmp_path / "a.csv"
    command = ("sort", tmp_path / "photos", "-c", "red,green", "--unsure", 0, "--csv", table)
    sent = []
    for colour in ((200, 40, 40), (40, 160, 40)):
        Image.new("RGB", (32, 32), colour).save(photo)
        os.utime(photo, ns=(10**18, 10**18))
        call(*command, status=1)  # nobody says yes
        with Client(service.url) as client:
            (pile,) = client.piles.list()
            sent.append([image.sha256 for image in pile.images()])
    assert [len(each) for each in sent] == [1, 2]


def test_sorted_on_the_page_and_moved_on_the_disk(
    service: Service, call: Any, photos: Path, taught: Job
) -> None:
    """Without --model and --classes, the command takes the pile that has the same files."""
    (photos / "broken.jpg").unlink()
    with Client(service.url) as client:
        pile = client.piles.create(photos, name="on the page")
        for name in ("red", "green", "blue"):
            at = [image.position for image in pile.images() if image.file.startswith(name)]
            pile.answer(at, f"{name} ones", how="moved")
    other = photos.rename(photos.with_name("card"))  # on another machine
    done = call("sort", other, "--move", "--yes")
    assert "Continues the pile on the page: 12 images, 12 labelled." in done.stderr
    sorted_files = sorted(path.relative_to(other.parent).as_posix() for path in other.parent.rglob("*.png"))
    assert sorted_files == sorted(
        f"card-sorted/{name} ones/{number}.png" for name in ("red", "green", "blue") for number in range(4)
    )
    assert len(piles(service)) == 1


def test_a_pile_with_less_than_half_of_the_files_is_of_another_folder(
    service: Service, call: Any, photos: Path
) -> None:
    (photos / "broken.jpg").unlink()
    paths = sorted(photos.rglob("*.png"))
    with Client(service.url) as client:
        pile = client.piles.create(paths[:5], class_names=["red", "blue"])
        assert "Say how to sort" in call("sort", photos, status=2).stderr
        pile.add(paths[5:6])
        assert "Continues the pile" in call("sort", photos, status=1).stderr


def test_copies_of_an_earlier_run_in_other_folders(service: Service, call: Any, photos: Path) -> None:
    """Somebody has corrected the sort since. The command says how to remove the old copies."""
    (photos / "broken.jpg").unlink()
    with Client(service.url) as client:
        pile = client.piles.create(photos)
        pile.answer(range(12), "cat")
        call("sort", photos, "--yes")
        assert "earlier run" not in call("sort", photos, "--yes").stderr
        pile.answer([0, 1], "dog")
    log = log_of(photos.with_name("photos-sorted"))
    said = call("sort", photos, status=1).stderr
    assert f"An earlier run put 2 images elsewhere. To undo it first: clipcite sort --undo {log}" in said


def test_a_killed_command_continues(service: Service, call: Any, taught: Job, tmp_path: Path) -> None:
    """Of 300 images, only those that the pile lacks are sent again."""
    for number in range(300):
        Image.new("RGB", (32, 32), (number % 256, 40, number // 2)).save(tmp_path / f"{number}.png")
    into = tmp_path.with_name(f"{tmp_path.name}-sorted")
    command = ["sort", str(tmp_path), "-m", str(taught.model_id), "--move", "--unsure", "0", "--yes"]
    environment = {**os.environ, "CLIPCITE_URL": service.url}
    process = subprocess.Popen([sys.executable, "-m", "clipcite", *command], env=environment)

    def kept() -> int:
        return sum(pile.counts.images for pile in piles(service))

    wait_for(lambda: kept() > 20 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = kept()
    done = call(*command)
    assert before <= int(re.findall(r"(\d+) images, 0 labelled.", done.stderr)[0])  # with a part on its way
    assert before < 300 or process.returncode == 0
    assert [pile.counts.images for pile in piles(service)] == [300]
    assert len(list(into.rglob("*.png"))) == 300
    call("sort", "--undo", log_of(into))
    assert len(list(tmp_path.glob("*.png"))) == 300


def test_labels_decide_and_teach(service: Service, photos: Path, learner: Job, monkeypatch: Any) -> None:
    """Each answer is kept at once. The model trains with them, and the new one sorts the pile."""
    monkeypatch.setenv("CLIPCITE_URL", service.url)
    table = photos.with_name("a.csv")

    def sort(label: int, *typed: str) -> Result:
        command = ("sort", photos, "-m", learner.model_id, "--label", label, "--unsure", 0, "--csv", table)
        return CliRunner().invoke(app, [str(each) for each in command], input="\n".join([*typed, ""]))

    stopped = sort(4, "blue", "y")  # the input ends: the answer before is kept
    assert stopped.exit_code == 130, stopped.output
    (pile,) = piles(service)
    assert (pile.counts.labelled, pile.keeps_images, pile.class_names) == (1, True, ["blue"])
    done = sort(4, "blue", "2", "s", "x", "q", "y", "q")  # trained once, then no more labels
    assert done.exit_code == 1, done.output  # the unreadable image
    assert done.stderr.count("Not measured yet.") == 3  # before the labels, with them, and after the training
    first, asked = (re.findall(r"\[\d/4\] (\S+\.png)", each.stderr) for each in (stopped, done))
    rows = {row["file"]: row for row in csv.DictReader(table.open())}
    shown = [first[0], asked[0], asked[1], asked[3]]
    assert [rows[file]["class"] for file in shown] == ["blue", "blue", "red", "something else"]
    assert [rows[file]["probability"] for file in shown] == [""] * 4
    assert Path(rows[first[0]]["target"]).parent.name == "blue"
    assert len({*first[:1], *asked}) == len(asked[:5]) + 1 or asked[4] not in shown
    (pile,) = piles(service)
    assert (pile.counts.labelled, pile.counts.none) == (4, 1)
    assert pile.model != learner.model_id
    with Client(service.url) as client:
        assert {*client.models.get(pile.model).trained_classes} == {"blue", "green", "red"}
        answers = {image.file: image.answer for image in client.piles.get(pile.id).images()}
    assert answers[Path(asked[2]).relative_to(photos).as_posix()].said == "skip"


def test_a_check_measures(service: Service, tmp_path: Path, taught: Job) -> None:
    """The images are drawn at random, without the model's class. A second run asks for no further image."""
    for name in ("red", "green", "blue"):
        paint(tmp_path, f"photos/{name}", 4)

    def sort(*options: str, typed: str = "") -> Any:
        command = ["sort", str(tmp_path / "photos"), "-m", taught.model_id or "", *options]
        return CliRunner().invoke(app, command, input=typed, env={"CLIPCITE_URL": service.url})

    stopped = sort("--check", "10", typed="red\n2\nred\nq\nn\n")
    shown = re.findall(r"\[\d+/10\] (\S+\.png)(.*)", stopped.stderr)
    assert {rest.strip() for _, rest in shown} == {""}  # the model's class is not shown
    assert "Not measured yet." in stopped.stdout
    (pile,) = piles(service)
    assert (pile.counts.labelled, pile.counts.drawn) == (3, 3)
    resumed = sort("--check", "10", typed="\n".join(["green"] * 7 + ["n", ""]))
    assert len(re.findall(r"\[\d/7\] ", resumed.stderr)) == 7
    assert re.search(
        r"\d+% are in the right place \(likely \d+ to \d+\), measured on 10 photos", resumed.stdout
    )
    done = sort("--check", "10", "--json")
    assert "Class" not in done.stderr
    found = json.loads(done.stdout)
    assert (found["measured"]["drawn"], found["measured"]["total"]) == (10, 12)
    assert found["pile"] == pile.id
    rows = {image["file"]: image["class"] for image in found["images"]}
    assert [rows[file] for file, _ in shown[:3]] == ["red", "red", "red"]


def test_something_else_has_a_folder(service: Service, call: Any, tmp_path: Path, taught: Job) -> None:
    """A person has said so. JSON has the plan, and nothing is done without --yes."""
    for name in ("red", "green", "blue"):
        paint(tmp_path, f"pile/{name}", 4)
    into, folder = tmp_path / "pile-sorted", tmp_path / "pile"
    with Client(service.url) as client:
        pile = client.piles.create(folder, model=taught.model_id)
        blue = [image.position for image in pile.images() if image.file.startswith("blue")]
        pile.answer(blue)
    command = ("sort", folder, "-m", taught.model_id, "--unsure", 0)
    planned = json.loads(call(*command, "--json", status=1).stdout)
    assert (planned["done"], planned["pile"]) == (False, pile.id)
    assert [path.suffix for path in into.iterdir()] == [".jsonl"]
    for image in planned["images"]:
        if Path(image["file"]).parent.name == "blue":
            assert (image["class"], image["something_else"]) == ("something else", True)
            assert (image["probability"], Path(image["target"]).parent) == (None, into / "something else")
    known = [image["class"] for image in planned["images"] if not image["something_else"]]
    assert sorted({*known}) == ["green", "red"]
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
    kinds = {"red": "RED", "green": "2", "blue": "x"}
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
    (pile,) = piles(service)
    assert pile.counts.labelled == 6


@pytest.mark.parametrize("option", ["--label", "--check"])
def test_the_end_of_the_input_sorts_nothing(service: Service, photos: Path, option: str) -> None:
    """Only `q` ends the questions. The pile keeps the answers before."""
    before = state(photos)
    command = ["sort", str(photos), "-c", "red,blue", option, "3", "--move", "--yes"]
    done = CliRunner().invoke(app, command, input="red\n", env={"CLIPCITE_URL": service.url})
    assert done.exit_code == 130, done.output
    assert done.stderr.endswith("\nStopped. The same command continues.\n")
    assert state(photos) == before
    (pile,) = piles(service)
    assert (pile.counts.labelled, pile.class_names) == (1, ["red", "blue"])


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


def test_another_model_of_a_pile_without_images(
    service: Service, call: Any, photos: Path, taught: Job
) -> None:
    """The images are sent again. Labels need them, so they make a pile with images."""
    (photos / "broken.jpg").unlink()
    call("sort", photos, "-m", taught.model_id, status=1)
    said = call("sort", photos, "-c", "red,green", status=1)
    assert "Continues the pile photos: 12 images" in said.stderr
    (pile,) = piles(service)
    assert (pile.model, pile.class_names, pile.keeps_images) == ("stock", ["red", "green"], False)
    command = ["sort", str(photos), "-c", "red,green", "--label", "1"]
    CliRunner().invoke(app, command, input="red\nq\nn\n", env={"CLIPCITE_URL": service.url})
    labelled, bare = piles(service)
    assert (labelled.keeps_images, labelled.counts.labelled, bare.id) == (True, 1, pile.id)
    call("sort", photos, status=1)  # nobody says yes; it is the one with a label
    assert json.loads(call("sort", photos, "--json", status=1).stdout)["pile"] == labelled.id


def test_a_folder_without_a_readable_image_leaves_no_pile(service: Service, call: Any, photos: Path) -> None:
    for path in photos.rglob("*.png"):
        path.unlink()
    said = call("sort", photos, "-c", "red,blue", "--yes", status=1)
    assert re.search(r"^unreadable +1 +stays", said.stdout, re.M)
    assert piles(service) == []


def test_the_rest_of_a_folder_belongs_to_its_pile(service: Service, call: Any, photos: Path) -> None:
    """An image that can't be read stays when the others were moved, and a new one comes."""
    command = ("sort", photos, "-c", "red,blue", "--move", "--unsure", 0, "--yes")
    call(*command, status=1)
    paint(photos, "grey", 1)
    assert "Moved 1 image." in call(*command, status=1).stdout
    (pile,) = piles(service)
    assert pile.counts.images == 13
    call("sort", "--undo", log_of(photos.with_name("photos-sorted")))
    assert len(list(photos.rglob("*.png"))) == 13


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
    add, said = folder_pile.add, list[str]()

    def add_during_another_sort(*given: Any) -> None:
        said.append(call("sort", second, "-m", taught.model_id, "--into", into, "--yes", status=1).stderr)
        add(*given)

    monkeypatch.setattr(folder_pile, "add", add_during_another_sort)
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
