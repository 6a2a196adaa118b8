"""Nothing is lost or overwritten, whatever happens during a sort or before its undoing."""

import errno
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from clipcite.sorting import files
from clipcite.sorting.files import carry_out, undo
from clipcite.sorting.log import How, Log, locked
from clipcite.sorting.plan import find_images
from tests.clipcite.sorting.sorted_folder import FILES, make, planned, run, start, state
from tests.disk import fill, small_disk
from tests.killed import INTERRUPTED, Steps, in_child

HOWS = get_args(How)


@pytest.fixture(autouse=True)
def no_settings_of_this_user() -> None:
    """Keep the settings: one marks the namespace of a test that mounts a disk."""


@pytest.fixture
def two_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file get a name in another folder, as between file systems."""
    link, rename = os.link, os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

    def link_in_one_folder(source: Path, target: Path, **options: Any) -> None:
        refuse(source, target)
        link(source, target, **options)

    def rename_in_one_folder(source: Path, target: Path) -> None:
        refuse(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "link", link_in_one_folder)
    monkeypatch.setattr(os, "rename", rename_in_one_folder)


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse hard links, as a memory card does."""

    def refuse(*given: Any, **options: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def plain_rename(no_hard_links: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the rename that replaces its target, as older drivers of such cards do."""
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: SimpleNamespace())


MOVES = {
    "move across": "two_file_systems",
    "move without links": "no_hard_links",
    "move by plain rename": "plain_rename",
}
FILE_SYSTEMS = {**MOVES, "copy by plain rename": "plain_rename"}


@pytest.fixture
def how(request: pytest.FixtureRequest) -> str:
    """Return how images are put into their places, on the file systems of the parameter."""
    if request.param in FILE_SYSTEMS:
        request.getfixturevalue(FILE_SYSTEMS[request.param])
    return str(request.param).partition(" ")[0]


def undone(log: Log) -> list[str]:
    """Undo, and return the names of the files that were left alone."""
    return [Path(path).name for path, _ in undo(Log(log.path), lambda done: None)]


@pytest.mark.parametrize("how", HOWS)
def test_sorts_beside_files_of_the_same_name_and_undoes_it(tmp_path: Path, how: How) -> None:
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    make(into, {"cat/a.jpg": "", "mine/x.jpg": ""})
    (folder / "b.jpg").chmod(0o444)
    before = state(tmp_path)
    log, left = run(folder, into, how)
    assert left == []
    names = sorted(path.relative_to(into).as_posix() for path in into.rglob("*.jpg"))
    assert names == [
        *("cat/a (2).jpg", "cat/a (3).jpg", "cat/a.jpg", "cat/c.jpg", "dog/b.jpg", "mine/x.jpg"),
        "unsure/d.jpg",
    ]
    assert (into / "cat/a.jpg").read_text() == "content of cat/a.jpg"
    assert (into / "cat/a (3).jpg").read_text() == "content of below/a.jpg"
    assert len(list(folder.rglob("*.jpg"))) == (0 if how == "move" else 5)
    assert run(folder, into, how)[1] == []  # again: all images are there
    assert sorted(path.relative_to(into).as_posix() for path in into.rglob("*.jpg")) == names
    assert undone(log) == []
    assert state(tmp_path) == before
    assert sorted(path.name for path in into.iterdir() if path.is_dir()) == ["cat", "mine"]
    assert undone(log) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [*HOWS, *FILE_SYSTEMS], indirect=True)
@pytest.mark.parametrize("by", ["SIGKILL", "Ctrl-C"])
def test_stopped_at_any_step(tmp_path: Path, how: How, by: str) -> None:
    """The process is stopped at each of its changes in turn. Nothing is lost; it can resume and undo."""
    contents = {f"content of {name}" for name in FILES}
    whole: dict[str, str] = {}
    steps = 0
    for undoing in (False, True):
        for step in range(200):
            root = tmp_path / f"{undoing} {step}"
            folder, into = make(root / "photos"), root / "photos-sorted"
            (folder / "e.jpg").symlink_to("d.jpg")
            before = state(root)
            log = run(folder, into, how)[0] if undoing else start(folder, into)
            work = partial(undone, log) if undoing else partial(run, folder, into, how)
            stopped = in_child(partial(_stopped, by, step, work))
            # A link to a content is no content.
            files = [path for path in root.rglob("*.jpg") if path.is_file() and not path.is_symlink()]
            assert contents <= {path.read_text() for path in files}
            if step % 2 and not undoing:
                log, left = run(folder, into, how)
                assert left == []
                result = {p.removeprefix(str(root)): t.replace(str(root), "") for p, t in state(root).items()}
                assert result == (whole := whole or result)
            assert undone(log) == []
            assert state(root) == before
            if not stopped:
                steps += step
                break
            assert stopped == (-signal.SIGKILL if by == "SIGKILL" else INTERRUPTED)
    assert 10 < steps < 399


def _stopped(by: str, step: int, work: Callable[[], object]) -> None:
    """Begin work that is stopped at a step."""
    (_kill_before if by == "SIGKILL" else _interrupt_after)(step)
    work()


def _interrupt_after(step: int) -> None:
    """Let change number `step` of this process succeed, and then raise KeyboardInterrupt, as Ctrl-C does."""
    left = step

    def interrupted(change: Any) -> Any:
        def call(*given: Any, **options: Any) -> None:
            nonlocal left
            change(*given, **options)
            left -= 1
            if left == -1:
                raise KeyboardInterrupt

        return call

    for name in ("link", "rename", "unlink", "symlink", "mkdir", "fsync"):
        setattr(os, name, interrupted(getattr(os, name)))


def _kill_before(step: int) -> None:
    steps = Steps(step)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes or event in {"os.link", "os.rename", "os.remove", "os.symlink", "os.mkdir"}:
            steps()

    sys.addaudithook(count)


@pytest.mark.slow
@pytest.mark.mounts
@pytest.mark.parametrize("how", ["copy", "move"])
def test_a_full_disk(tmp_path: Path, how: How) -> None:
    """The target is on another file system, so files can't be renamed into it."""
    folder = make(tmp_path / "photos")
    (folder / "b.jpg").write_text("b" * 600_000)
    before = state(folder)
    with small_disk(tmp_path / "disk", 1) as disk:
        into = disk / "sorted"
        start(folder, into)
        ballast = fill(disk, leave=300_000)
        with pytest.raises(OSError, match="No space left") as error:
            run(folder, into, how)
        assert error.value.errno == errno.ENOSPC
        assert set(before.values()) <= {*state(folder).values(), *state(into).values()}
        assert not list(into.rglob("b.jpg"))
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            Log(next(into.glob("*.jsonl"))).write({"folder": "f" * 5_000})
        ballast.unlink()
        log, left = run(folder, into, how)
        assert (left, log.damaged) == ([], 0)
        assert (into / "cat" / "b.jpg").stat().st_size == 600_000
        assert undone(log) == []
        assert state(folder) == before


@pytest.mark.parametrize("how", ["move", *MOVES], indirect=True)
def test_a_source_that_stays_and_a_file_that_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How
) -> None:
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    before = state(folder)
    for module, name in ((os, "unlink"), (os, "rename"), (files, "_rename_without_links")):
        monkeypatch.setattr(module, name, _refusing_a(folder, getattr(module, name)))
    log = start(folder, into)
    places = planned(find_images(folder, into), into, how)
    make(into, {"dog/b.jpg": ""})
    left = carry_out(log, places, how, lambda done: None)
    assert [(Path(path).name, reason) for path, reason in left] == [
        ("a.jpg", "Permission denied"),
        ("b.jpg", "File exists"),
        ("a.jpg", "Permission denied"),
    ]
    assert (into / "dog/b.jpg").read_text() == "content of dog/b.jpg"
    assert {name for name in before if name.endswith(("a.jpg", "b.jpg"))} == set(state(folder))
    assert not set(state(folder).values()) & set(state(into).values())
    monkeypatch.undo()
    assert undone(log) == ["b.jpg"]
    assert state(folder) == before


def _refusing_a(folder: Path, change: Any) -> Any:
    """Return a system call that fails for each `a.jpg` of a folder, as if that folder were read-only."""

    def call(path: Path, *given: Any, **options: Any) -> None:
        if Path(path).name == "a.jpg" and folder in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied")
        change(path, *given, **options)

    return call


def test_links(tmp_path: Path) -> None:
    """A link is sorted as its image, and moved as a link. Links to folders are not followed."""
    folder, other = make(tmp_path / "photos"), make(tmp_path / "other", {"o.jpg": ""})
    (folder / "below" / "link.jpg").symlink_to("../a.jpg")
    (folder / "out.jpg").symlink_to(other / "o.jpg")
    (folder / "dangling.jpg").symlink_to("gone.jpg")
    (folder / "circle").symlink_to(".")
    (folder / "twice").symlink_to("below")
    (folder / "other").symlink_to(other)
    before = state(tmp_path)
    into = tmp_path / "photos-sorted"
    log, left = run(folder, into, "copy")
    assert left == []
    assert (into / "cat/link.jpg").read_text() == "content of a.jpg"
    assert not any(path.is_symlink() for path in into.rglob("*"))
    assert len(list(into.rglob("*.jpg"))) == 7
    assert undone(log) == []
    assert state(tmp_path) == before

    log, left = run(folder, into, "move")
    assert left == []
    assert (other / "o.jpg").exists()
    assert (into / "cat/link.jpg").readlink() == into / "cat/a.jpg"
    assert (into / "cat/out.jpg").readlink() == other / "o.jpg"
    assert undone(log) == []
    assert state(tmp_path) == before


@pytest.mark.parametrize("how", HOWS)
def test_a_folder_inside_its_target_and_a_target_inside_the_folder(tmp_path: Path, how: How) -> None:
    folder = make(tmp_path / "photos")
    before = state(tmp_path)
    for into in (folder, tmp_path, folder / "sorted"):
        log, left = run(folder, into, how)
        assert left == []
        assert (into / "cat/c.jpg").exists()
        assert set(before.values()) <= set(state(tmp_path).values())
        assert into != folder / "sorted" or len(find_images(folder, into)) == (0 if how == "move" else 5)
        count = len(list(folder.rglob("*.jpg")))
        run(folder, into, how)
        assert len(list(folder.rglob("*.jpg"))) == count
        assert undone(log) == []
        assert state(tmp_path) == before
        log.path.unlink()


def test_undo_after_further_changes(tmp_path: Path) -> None:
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    log, _ = run(folder, into, "copy")
    times = (into / "cat/a.jpg").stat()
    (into / "cat/a.jpg").write_text("CONTENT of a.jpg")  # with the same size and time
    os.utime(into / "cat/a.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    (folder / "b.jpg").unlink()  # the copy is the only one now
    (folder / "d.jpg").unlink()
    (folder / "d.jpg").symlink_to(into / "unsure/d.jpg")
    (into / "cat/c.jpg").rename(into / "mine.jpg")
    after = state(tmp_path)
    assert undone(log) == ["d.jpg", "b.jpg", "a.jpg"]
    assert state(tmp_path) == {path: text for path, text in after.items() if "a (2)" not in path}

    folder, into = make(tmp_path / "more"), tmp_path / "more-sorted"
    log, _ = run(folder, into, "move")
    (folder / "b.jpg").write_text("another b")
    (into / "cat/c.jpg").rename(into / "mine.jpg")
    (into / "unsure/d.jpg").write_text("edited")
    (folder / "below").rmdir()
    assert undone(log) == ["c.jpg", "b.jpg"]
    assert state(folder, into) == {
        str(folder / "a.jpg"): "content of a.jpg",
        str(folder / "b.jpg"): "another b",
        str(folder / "below/a.jpg"): "content of below/a.jpg",
        str(folder / "d.jpg"): "edited",
        str(into / "dog/b.jpg"): "content of b.jpg",
        str(into / "mine.jpg"): "content of below/c.jpg",
    }

    folder, into = make(tmp_path / "linked"), tmp_path / "linked-sorted"
    log, _ = run(folder, into, "link")
    (into / "dog/b.jpg").unlink()
    (into / "dog/b.jpg").write_text("my b")
    assert undone(log) == ["b.jpg"]
    assert state(into) == {str(into / "dog/b.jpg"): "my b"}


def test_a_line_of_the_log_that_was_cut_off(tmp_path: Path) -> None:
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    before = state(tmp_path)
    log, _ = run(folder, into, "move")
    with log.path.open("a") as file:
        file.write('\n{"do": "move", "from": "x')
    again, left = run(folder, into, "move")
    again.write({"folder": "new"})
    assert (again.path, left, Log(log.path).folders[-1]) == (log.path, [], "new")
    assert undone(log) == []
    assert state(tmp_path) == before


def test_what_appears_while_an_image_is_moved_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person saves an image at the old place between the two calls that move the old one."""
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    link = os.link

    def link_and_save(source: Path, target: Path, **options: Any) -> None:
        link(source, target, **options)
        (folder / "new.jpg").write_text("saved")
        (folder / "new.jpg").replace(source)

    monkeypatch.setattr(os, "link", link_and_save)
    [(_, reason)] = run(folder, into, "move")[1][:1]
    assert reason == "It was replaced while it was moved. The old one is at its new place."
    assert (folder / "a.jpg").read_text() == "saved"
    assert (into / "cat/a.jpg").read_text() == "content of a.jpg"


@pytest.mark.usefixtures("no_hard_links")
def test_without_hard_links_the_rename_itself_checks_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    source.write_text("mine")

    def check(path: Path) -> bool:
        pytest.fail("The target could be created after the check.")

    monkeypatch.setattr(files, "_exists", check)
    files.rename(source, target)
    assert target.read_text() == "mine"
    source.write_text("another")
    with pytest.raises(FileExistsError):
        files.rename(source, target)
    assert (source.read_text(), target.read_text()) == ("another", "mine")


@pytest.mark.usefixtures("plain_rename")
def test_the_name_is_taken_before_a_plain_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that saves a photo right before the rename finds its name in use."""
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    source.write_text("mine")
    rename = os.rename

    def save_and_rename(*given: Any) -> None:
        with pytest.raises(FileExistsError):
            target.open("x").close()
        rename(*given)

    monkeypatch.setattr(os, "rename", save_and_rename)
    files.rename(source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["b.jpg"]
    assert target.read_text() == "mine"
    source.write_text("another")
    with pytest.raises(FileExistsError):
        files.rename(source, target)
    assert (source.read_text(), target.read_text()) == ("another", "mine")
    monkeypatch.setattr(os, "rename", _refusing_a(tmp_path, rename))
    with pytest.raises(PermissionError):
        files.rename(source, tmp_path / "c.jpg")
    assert not (tmp_path / "c.jpg").exists()


@pytest.mark.parametrize("how", ["copy", "move"])
def test_an_image_that_changes_after_its_classification_stays(tmp_path: Path, how: How) -> None:
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    log = start(folder, into)
    places = planned(find_images(folder, into), into, how)
    (folder / "a.jpg").write_text("edited")
    (folder / "b.jpg").unlink()
    left = carry_out(log, places, how, lambda done: None)
    assert [(Path(path).name, reason) for path, reason in left] == [
        ("a.jpg", "It has changed since it was classified."),
        ("b.jpg", "No such file or directory"),
    ]
    assert (folder / "a.jpg").read_text() == "edited"
    assert run(folder, into, how)[1] == []


def test_a_link_that_was_replaced_by_a_file(tmp_path: Path) -> None:
    """A person saves a picture in the place of a link. Undoing leaves it alone, whatever the link was."""
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    (folder / "e.jpg").symlink_to("a.jpg")
    for how in ("move", "link"):
        log, left = run(folder, into, how)
        assert left == []
        link = into / "cat" / "e.jpg"
        link.unlink()
        link.write_text("edited")
        assert undone(log) == ["e.jpg"]
        assert link.read_text() == "edited"
        link.unlink()
        log.path.unlink()
        (folder / "e.jpg").unlink(missing_ok=True)
        (folder / "e.jpg").symlink_to("a.jpg")


@pytest.mark.parametrize("how", HOWS)
def test_names_that_get_too_long_and_a_folder_that_fails(tmp_path: Path, how: How) -> None:
    """The images of other folders are sorted, and put back. When the folder works again, so are the rest."""
    long = {f"{number}/{'ö' * 125}x.jpg": "cat" for number in range(3)}
    assert {len(os.fsencode(Path(name).name)) for name in long} == {255}
    files = {**FILES, **long}
    folder, into = make(tmp_path / "photos", files), tmp_path / "photos-sorted"
    before = state(tmp_path)
    log, left = run(folder, into, how, files)
    assert left == []
    names = sorted(len(os.fsencode(path.name)) for path in into.glob("cat/ö*"))
    assert names == [254, 254, 255]
    after = state(tmp_path)
    (into / "dog").rename(into / "away")
    (into / "dog").symlink_to("dog")  # each path below is an error now
    assert {Path(path).name for path, _ in run(folder, into, how, files)[1]} <= {"b.jpg"}
    assert undone(log) == ["b.jpg"]
    assert len(state(folder)) == (len(files) - 1 if how == "move" else len(files))
    (into / "dog").unlink()
    (into / "away").rename(into / "dog")
    assert undone(log) == []
    assert state(tmp_path) == before
    assert run(folder, into, how, files)[1] == []
    assert state(tmp_path) == after


def test_a_class_folder_that_leads_elsewhere(tmp_path: Path) -> None:
    folder, into, elsewhere = make(tmp_path / "photos"), tmp_path / "photos-sorted", tmp_path / "elsewhere"
    for path in (into, elsewhere):
        path.mkdir()
    (into / "cat").symlink_to(elsewhere)
    log, left = run(folder, into, "move")
    assert len(left) == 3
    assert all("is a link to another folder" in reason for _, reason in left)
    assert not state(elsewhere)
    assert undone(log) == []


@pytest.mark.parametrize("how", HOWS)
def test_a_folder_that_is_its_own_target_again(tmp_path: Path, how: How) -> None:
    """Files that the first run has moved are not sorted again, wherever their names sort."""
    files = {"z.jpg": "cat", "below/z.jpg": "cat", "a.jpg": "dog"}
    folder = make(tmp_path / "photos", files)
    before = state(tmp_path)
    log, left = run(folder, folder, how, files)
    after = state(tmp_path)
    assert (left, len(after)) == ([], 3 if how == "move" else 6)
    for _ in range(2):
        assert run(folder, folder, how, files)[1] == []
        assert state(tmp_path) == after
    assert undone(log) == []
    assert state(tmp_path) == before


def test_the_log_of_a_stranger(tmp_path: Path) -> None:
    """No path leads out of the two folders, and records that this command does not write are counted."""
    folder, into, home = make(tmp_path / "photos"), tmp_path / "photos-sorted", tmp_path / "home"
    make(home, {"key.jpg": "", "sub/id": "", "empty/x": ""})
    (home / "empty/x").unlink()
    before = state(tmp_path)
    log, _ = run(folder, into, "move")
    (into / "out").symlink_to(home)
    actions = [
        {"do": "move", "from": "stolen.jpg", "to": "../home/key.jpg"},
        {"do": "move", "from": "stolen.jpg", "to": str(home / "key.jpg")},
        {"do": "move", "from": "../home/new.jpg", "to": "cat/a.jpg"},
        {"do": "move", "from": "stolen", "to": "out/sub/id"},
        {"do": "move", "from": "a.jpg", "to": ".hidden/a.jpg"},
        {"do": "move", "from": "a\0.jpg", "to": "cat/a.jpg"},
        {"do": "move", "from": "a\ud800.jpg", "to": "cat/a.jpg"},
        {"do": "move", "from": 1, "to": "cat/a.jpg"},
        {"do": ["move"], "from": "a.jpg", "to": "cat/a.jpg"},
        {"do": "erase", "from": "a.jpg", "to": "cat/a.jpg"},
        {"do": "link", "from": "a.jpg", "to": "cat/a.jpg"},
        {"do": "move", "from": "a.jpg", "to": "cat/a.jpg", "link": 1, "made": 2},
        {"folder": "../home/empty"},
        {"folder": ""},
        {"subject": {"folder": "relative", "pile": "pil_1"}},
        {"subject": {"pile": "pil_1"}},
        {"subject": 1},
        {"image": "a", "label": "cat"},
        ["a"],
        None,
    ]
    lines = [json.dumps(action) for action in actions]
    with log.path.open("ab") as file:
        file.write("\n".join(["", *lines, "[" * 100_000, "9" * 5_000, "{", ""]).encode() + b"\xff\x00\n")
        behind = {"do": "move", "from": "stolen.jpg", "to": "out/key.jpg"}
        file.write(json.dumps(behind).encode())
    assert Log(log.path).damaged == len(actions) + 4
    assert run(folder, into, "move")[1] == []
    assert undone(log) == ["key.jpg"]
    assert (home / "empty").is_dir()
    (into / "out").unlink()
    assert state(tmp_path) == before


def test_one_sort_of_a_folder_at_a_time(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    with locked(one, one, other):
        for folders in ((one,), (other, one), (other,)):
            with pytest.raises(BlockingIOError, match="Another sort"), locked(*folders):
                pass
    assert not other.exists()
    with locked(other, one):
        pass


def test_a_folder_that_two_sorts_make_at_once_belongs_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one saw no folder. It neither fails for another reason nor removes that of the first one."""
    into, exists = tmp_path / "new", Path.exists
    with locked(into):
        monkeypatch.setattr(Path, "exists", lambda path: path != into and exists(path))
        with pytest.raises(BlockingIOError, match="Another sort"), locked(into):
            pass
        monkeypatch.undo()
        assert into.is_dir()
    assert not into.exists()


def test_a_folder_that_another_sort_removes_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into, flock = tmp_path / "new", fcntl.flock

    def removed(handle: int, operation: int) -> None:
        flock(handle, operation)
        into.rmdir()

    monkeypatch.setattr(fcntl, "flock", removed)
    with pytest.raises(BlockingIOError, match="Another sort"), locked(into):
        pass
