"""Nothing is lost or overwritten, whatever happens during a sort or before its undoing."""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from clipcite.sorting.files import carry_out, undo
from clipcite.sorting.log import Log
from clipcite.sorting.plan import How, find_images, plan
from tests.clipcite.sorting.sorted_folder import FILES, make, run, start, state
from tests.disk import fill, small_disk

HOWS = get_args(How)


@pytest.fixture(autouse=True)
def no_settings_of_this_user() -> None:
    """Keep the settings, of which one marks the namespace of a test that mounts a disk."""


@pytest.fixture
def two_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be renamed into another folder, as between file systems."""
    replace = Path.replace

    def replace_in_one_folder(path: Path, target: Path) -> Path:
        if path.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_in_one_folder)


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


@pytest.mark.parametrize("how", [*HOWS, "move across"])
def test_killed_at_any_step(tmp_path: Path, how: Any, request: pytest.FixtureRequest) -> None:
    """The process is killed before each of its changes in turn. Nothing is lost; it can resume and undo."""
    if how == "move across":
        request.getfixturevalue("two_file_systems")
        how = "move"
    contents = {f"content of {name}" for name in FILES}
    whole: dict[str, str] = {}
    steps = 0
    for undoing in (False, True):
        for step in range(200):
            root = tmp_path / f"{undoing} {step}"
            folder, into = make(root / "photos"), root / "photos-sorted"
            (folder / "e.jpg").symlink_to("d.jpg")
            before = state(root)
            log = run(folder, into, how)[0] if undoing else start(folder, into, how)
            child = os.fork()
            if child == 0:
                _kill_at(step)
                _ = undone(log) if undoing else run(folder, into, how)
                os._exit(0)
            killed = os.waitpid(child, 0)[1] != 0
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
            if not killed:
                steps += step
                break
    assert 20 < steps < 399


def _kill_at(step: int) -> None:
    """Kill this process before its change number `step`."""
    left = step

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes or event in {"os.rename", "os.remove", "os.symlink", "os.mkdir"}:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


@pytest.mark.mounts
@pytest.mark.parametrize("how", ["copy", "move"])
def test_a_full_disk(tmp_path: Path, how: How) -> None:
    """The disk is also another file system, to which a file can't be renamed."""
    folder = make(tmp_path / "photos")
    (folder / "b.jpg").write_text("b" * 600_000)
    before = state(folder)
    with small_disk(tmp_path / "disk", 1) as disk:
        into = disk / "sorted"
        start(folder, into, how)
        ballast = fill(disk, leave=300_000)
        with pytest.raises(OSError, match="No space left") as error:
            run(folder, into, how)
        assert error.value.errno == errno.ENOSPC
        assert set(before.values()) <= {*state(folder).values(), *state(into).values()}
        assert not list(into.rglob("b.jpg"))
        ballast.unlink()
        log, left = run(folder, into, how)
        assert left == []
        assert (into / "cat" / "b.jpg").stat().st_size == 600_000
        assert undone(log) == []
        assert state(folder) == before


@pytest.mark.parametrize("across", [False, True])
def test_a_folder_that_is_read_only_and_a_file_that_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, across: bool
) -> None:
    folder, into = make(tmp_path / "photos"), tmp_path / "photos-sorted"
    before = state(folder)
    if across:
        request.getfixturevalue("two_file_systems")
    method = "unlink" if across else "replace"
    original = getattr(Path, method)

    def refuse(path: Path, *given: Any, **options: Any) -> Any:
        if path.name == "a.jpg" and folder in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, *given, **options)

    monkeypatch.setattr(Path, method, refuse)
    log = start(folder, into, "move")
    places = plan(find_images(folder, into), log, into, 0.6, "move")
    make(into, {"dog/b.jpg": ""})
    left = carry_out(log, places, "move", lambda done: None)
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
