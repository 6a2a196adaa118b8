import io
import re
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import unicodedata
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.archive.errors import ArchiveError, Warnings
from api.archive.members import ArchiveLimits
from api.archive.read import Entry, read_archive
from tests.inputs import crafted

PACKERS = {"zip": crafted.zip_of, "tar": crafted.tar_of, "tar.gz": crafted.tar_gz_of}
SMALL = ArchiveLimits(max_pictures=10, max_picture_bytes=100_000, max_bytes=300_000, max_entries=50)


def read(content: bytes, folder: Path, limits: ArchiveLimits | None = None) -> tuple[list[Entry], Warnings]:
    return read_archive(io.BytesIO(content), folder, limits or ArchiveLimits())


def refused(content: bytes, folder: Path, limits: ArchiveLimits | None = None) -> tuple[str, int]:
    inside = set(folder.parent.rglob("*"))
    with pytest.raises(ArchiveError) as caught:
        read(content, folder, limits)
    assert caught.value.detail.endswith(".")
    new = set(folder.parent.rglob("*")) - inside
    assert all(path.parent == folder and path.name.isdigit() for path in new)
    return caught.value.code, caught.value.status


def placed(files: list[str], folder: Path, packer: str = "zip") -> tuple[dict[str, str], list[str]]:
    entries, warnings = read(PACKERS[packer]({name: crafted.jpeg() for name in files}), folder)
    places = {entry.file_name: f"{entry.split}:{entry.class_name}" for entry in entries}
    return places, [warning["code"] for warning in warnings]


@pytest.mark.parametrize("packer", PACKERS)
def test_one_folder_per_class(packer: str, tmp_path: Path) -> None:
    files = crafted.two_classes()
    entries, warnings = read(PACKERS[packer](files), tmp_path)
    assert {entry.file_name: entry.data.read_bytes() for entry in entries} == files
    assert {(entry.split, entry.class_name) for entry in entries} == {
        ("train", "red fox"),
        ("train", "badger"),
    }
    assert warnings == []
    assert all(entry.problem is None for entry in entries)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize(
    ("files", "expected", "codes"),
    [
        (["train/cat/a.jpg", "test/cat/b.jpg"], ["train:cat", "test:cat"], []),
        (["Train/cat/a.jpg", "TEST/dog/b.jpg"], ["train:cat", "test:dog"], []),
        (["train/cat/a.jpg", "val/cat/b.jpg"], ["train:cat", "test:cat"], ["validation_is_test"]),
        (
            ["train/cat/a.jpg", "val/cat/b.jpg", "test/cat/c.jpg"],
            ["train:cat", None, "test:cat"],
            ["validation_passed_over"],
        ),
        (["train/a.jpg", "bus/a.jpg"], ["train:train", "train:bus"], []),  # a class called train
        (["train/a.jpg", "test/a.jpg"], ["train:train", "train:test"], []),
        (["data/cat/a.jpg", "data/dog/b.jpg"], ["train:cat", "train:dog"], ["extra_root_folder"]),
        (
            ["data/train/cat/a.jpg", "data/test/cat/b.jpg"],
            ["train:cat", "test:cat"],
            ["extra_root_folder"],
        ),
        (["./cat/a.jpg", ".//dog/./b.jpg"], ["train:cat", "train:dog"], []),
        (
            ["cat/a.jpg", "dog/b.jpg", "cover.jpg"],
            ["train:cat", "train:dog", None],
            ["pictures_without_class"],
        ),
        (
            ["data/cat/a.jpg", "data/dog/b.jpg", "data/cover.jpg"],
            ["train:cat", "train:dog", None],
            ["extra_root_folder", "pictures_without_class"],
        ),
        (
            ["cat/a.jpg", "cat/x/y/b.jpg", "dog/c.jpg"],
            ["train:cat", "train:cat", "train:dog"],
            ["nested_folders"],
        ),
        (["train/cat/a.jpg"], ["train:cat"], []),
    ],
)
def test_layouts(
    packer: str, files: list[str], expected: list[str | None], codes: list[str], tmp_path: Path
) -> None:
    places, warnings = placed(files, tmp_path, packer)
    plain = ["/".join(part for part in name.split("/") if part not in {"", "."}) for name in files]
    assert [places.get(name) for name in plain] == expected
    assert warnings == codes


def test_a_layout_with_two_meanings_is_refused(tmp_path: Path) -> None:
    files = {f"{name}/a.jpg": crafted.jpeg() for name in ("train/cat", "test/cat", "figures")}
    assert refused(crafted.zip_of(files), tmp_path) == ("unclear_layout", 422)


def test_what_is_passed_over_is_said_once(tmp_path: Path) -> None:
    files = crafted.two_classes()
    junk = {f"notes/{i}.txt": b"x" for i in range(3_000)}
    hidden = {"__MACOSX/red fox/._0.jpg": b"x", "badger/.DS_Store": b"x", ".git/config": b"x"}
    entries, warnings = read(crafted.zip_of({**files, **junk, **hidden}), tmp_path)
    assert len(entries) == 8
    assert [warning["code"] for warning in warnings] == ["hidden_files", "other_files"]
    assert warnings[0]["detail"].startswith("3 hidden")
    assert warnings[1]["detail"].startswith("3,000 files")
    assert all(len(warning["detail"]) < 600 for warning in warnings)


def test_a_picture_without_ending_counts_and_a_false_one_too(tmp_path: Path) -> None:
    files = {
        "cat/photo": crafted.png(),
        "cat/a.jpg": b"a text",
        "cat/b.heic": b"what a telephone makes",
        "dog/c": crafted.encoded(crafted.Image.new("RGB", (9, 9)), "WEBP"),
        "dog/d.csv": b"1,2",
    }
    entries, warnings = read(crafted.zip_of(files), tmp_path)
    assert [entry.file_name for entry in entries] == ["cat/photo", "cat/a.jpg", "cat/b.heic", "dog/c"]
    assert [warning["code"] for warning in warnings] == ["other_files"]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    entries, warnings = read(crafted.zip_of({**crafted.two_classes(), "owl/": b""}), tmp_path)
    assert {entry.class_name for entry in entries} == {"red fox", "badger"}
    assert [w["code"] for w in warnings] == ["empty_folders"]
    assert "owl" in warnings[0]["detail"]


UNSAFE = [
    "../cat/a.jpg",
    "cat/../../a.jpg",
    "/cat/a.jpg",
    "C:/cat/a.jpg",
    "C:a.jpg",
    "cat\\a.jpg",
    "..\\a.jpg",
]


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_paths(packer: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    content = PACKERS[packer]({"cat/good.jpg": crafted.jpeg(), name: crafted.jpeg()})
    assert refused(content, folder) == ("unsafe_path", 422)


def test_links_and_devices(tmp_path: Path) -> None:
    assert refused(crafted.zip_with_link(), tmp_path) == ("symlink_in_archive", 422)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
        info = tarfile.TarInfo("cat/a.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        assert refused(crafted.tar_with(info), tmp_path) == ("symlink_in_archive", 422)
    info_zip = zipfile.ZipInfo("cat/a.jpg")
    info_zip.external_attr = (stat.S_IFIFO | 0o600) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info_zip, b"")
    assert refused(buffer.getvalue(), tmp_path) == ("symlink_in_archive", 422)


def test_protected_and_unusual_archives(tmp_path: Path) -> None:
    assert refused(crafted.encrypted_zip(), tmp_path) == ("encrypted_archive", 422)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        content = crafted.zip_of({"cat/a.jpg": crafted.jpeg()}, method)
        assert refused(content, tmp_path) == ("unsupported_compression", 422)
    for content in (b"", b"Rar!\x1a\x07\0", b"7z\xbc\xaf\x27\x1c", b"text" * 500, crafted.jpeg()):
        assert refused(content, tmp_path) == ("not_an_archive", 422)
    assert refused(crafted.gz(b"no tar at all"), tmp_path)[0] == "broken_archive"
    for packer in PACKERS.values():
        assert refused(packer({}), tmp_path) == ("no_pictures", 422)
        assert refused(packer({"cat/a.txt": b"x", "b.jpg": crafted.jpeg()}), tmp_path)[0] == "no_pictures"
        assert refused(packer({"cat/inner.zip": crafted.zip_of(crafted.two_classes())}), tmp_path) == (
            "no_pictures",
            422,
        )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_entry_twice(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat/a.jpg", crafted.jpeg(1))
        archive.writestr("cat/./a.jpg", crafted.jpeg(2))
    assert refused(buffer.getvalue(), tmp_path) == ("duplicate_entry", 422)
    # NFC and NFD of one name
    content = crafted.zip_of({"caf\u00e9/a.jpg": crafted.jpeg(), "cafe\u0301/a.jpg": crafted.jpeg()})
    assert refused(content, tmp_path) == ("duplicate_entry", 422)


@pytest.mark.parametrize("packer", PACKERS)
def test_cut_short(packer: str, tmp_path: Path) -> None:
    content = PACKERS[packer](crafted.two_classes())
    if packer == "tar":
        content = content[: len(content.rstrip(b"\0")) + 600]  # without the padding after the end mark
    step = 512 if packer == "tar" else len(content) // 40
    for end in range(600, len(content) - 601, step):
        assert refused(content[:end], tmp_path)[0] == "broken_archive", end


def test_data_after_the_end_of_a_tar(tmp_path: Path) -> None:
    content = crafted.tar_of({"cat/a.jpg": crafted.jpeg()}) + crafted.tar_of({"dog/a.jpg": crafted.jpeg()})
    assert refused(content, tmp_path)[0] == "broken_archive"
    assert refused(crafted.gz(content), tmp_path)[0] == "broken_archive"


def test_a_damaged_entry_is_one_bad_picture(tmp_path: Path) -> None:
    files = {"cat/a.jpg": crafted.jpeg(1), "dog/b.jpg": crafted.jpeg(2)}
    content = bytearray(crafted.zip_of(files, zipfile.ZIP_STORED))
    content[content.index(files["cat/a.jpg"]) + 500] ^= 0xFF
    entries, _ = read(bytes(content), tmp_path)
    assert [entry.problem and entry.problem.code for entry in entries] == ["broken_entry", None]


def test_limits(tmp_path: Path) -> None:
    many = {f"cat/{i}.jpg": crafted.jpeg() for i in range(11)}
    big = {f"cat/{i}.jpg": bytes(90_000) for i in range(4)}
    large = {"cat/a.jpg": bytes(100_001), "dog/b.jpg": crafted.jpeg()}
    junk = {f"cat/{i}.txt": b"" for i in range(51)}
    for packer in PACKERS.values():
        assert refused(packer(many), tmp_path, SMALL) == ("too_many_pictures", 413)
        assert refused(packer(junk), tmp_path, SMALL) == ("archive_too_large", 413)
        entries, _ = read(packer(large), tmp_path, SMALL)
        assert [e.problem and e.problem.code for e in entries] == ["picture_too_large", None]
        assert entries[0].data.stat().st_size == 0
        assert refused(packer(big), tmp_path, SMALL) == ("archive_too_large", 413)


def measured(content: bytes, folder: Path) -> tuple[tuple[str, int], float, int]:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    answer = refused(content, folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return answer, time.process_time() - start, grown


def test_bombs(tmp_path: Path) -> None:
    bomb = crafted.zip_bomb()
    assert len(bomb) < 60_000
    entries, _ = read(bomb, tmp_path)
    assert [e.problem and e.problem.code for e in entries] == ["picture_too_large", None]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000

    overlapping = crafted.overlapping_zip()
    # The directory says more than is allowed ...
    answer, seconds, grown = measured(overlapping, tmp_path)
    assert answer == ("archive_too_large", 413)
    assert (seconds < 1, grown < 64_000) == (True, True)
    # ... or not, and then the overlap shows.
    answer, seconds, grown = measured(crafted.overlapping_zip(10), tmp_path)
    assert answer == ("broken_archive", 422)
    assert (seconds < 1, grown < 64_000) == (True, True)


def test_a_zip_that_lies_about_sizes_is_stopped_by_counting(tmp_path: Path) -> None:
    # Each entry claims 90 kB and a wrong checksum; the packed bytes hold far more.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(1_000_000)) + packer.flush()
    blob, rows = b"", []
    for i in range(9):
        name = f"cat/{i}.jpg".encode()
        rows.append((name, len(blob), len(packed), b"\1\2\3\4", 30_000))
        blob += b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 0x21) + b"\1\2\3\4"
        blob += struct.pack("<IIHH", len(packed), 30_000, len(name), 0) + name + packed
    entries, _ = read(crafted.zip_raw(rows, blob), tmp_path, SMALL)
    assert {entry.problem and entry.problem.code for entry in entries} == {"broken_entry"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0


def test_a_gzip_of_nothing_but_junk_is_counted(tmp_path: Path) -> None:
    content = crafted.tar_gz_of({"junk.bin": bytes(600_000), "cat/a.jpg": crafted.jpeg()})
    assert refused(content, tmp_path, SMALL) == ("archive_too_large", 413)


def test_crowds_of_entries(tmp_path: Path) -> None:
    rows = [(b"%06d" % i, 0, 0, bytes(4), 0) for i in range(300_000)]
    answer, seconds, grown = measured(crafted.zip_raw(rows, crafted.zip_of({"a": b""})), tmp_path)
    assert answer == ("archive_too_large", 413)
    assert (seconds < 1, grown < 64_000) == (True, True)


def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    """All in one fresh process: what it grows by is what they cost together."""
    row = b"PK\1\2" + bytes(24) + b"\6\0" + bytes(16) + b"000000"
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65_535, 65_535, 1_000_000 * len(row), 4, 0)
    bombs = {
        "million": b"PK\3\4" + row * 1_000_000 + end,
        "unpacks": crafted.zip_bomb(),
        "overlaps": crafted.overlapping_zip(3),
        "nested": crafted.zip_of({f"cat/{i}.zip": crafted.zip_bomb(20_000_000) for i in range(9)}),
        "tar": crafted.tar_gz_of({"cat/a.bin": bytes(50_000_000)}),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    script = """
        import resource, sys, time
        from pathlib import Path
        from api.archive.errors import ArchiveError
        from api.archive.members import ArchiveLimits
        from api.archive.read import read_archive
        folder, scratch = Path(sys.argv[1]), Path(sys.argv[1]) / "scratch"
        scratch.mkdir()
        limits = ArchiveLimits(max_bytes=60_000_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in sys.argv[2:]:
            started = time.process_time()
            try:
                with (folder / name).open("rb") as file:
                    entries, _ = read_archive(file, scratch, limits)
                code = next(e.problem.code for e in entries if e.problem)
            except ArchiveError as error:
                code = error.code
            print(code, time.process_time() - started)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), *bombs]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *lines, grown = done.stdout.splitlines()
    codes = ["archive_too_large", "picture_too_large", "broken_archive", "no_pictures", "no_pictures"]
    assert [line.split()[0] for line in lines] == codes
    assert max(float(line.split()[1]) for line in lines) < 2
    assert int(grown) < 64_000  # kB
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) < 10_000


def test_tar_headers_have_limits(tmp_path: Path) -> None:
    for payload in (b"1" * 60_000, b"x" * 1_000_000):
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, len(payload)
        padded = payload + bytes(-len(payload) % 512)
        content = info.tobuf(tarfile.USTAR_FORMAT) + padded + crafted.tar_of(crafted.two_classes())
        answer, seconds, _ = measured(crafted.gz(content), tmp_path)
        assert answer == ("broken_archive", 422)
        assert seconds < 1


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["x" * 8_200 + "/a.jpg", "x/" * 40 + "a.jpg"])
def test_names_have_limits(packer: str, name: str, tmp_path: Path) -> None:
    assert refused(PACKERS[packer]({name: crafted.jpeg()}), tmp_path) == ("broken_archive", 422)


def test_names_in_other_encodings(tmp_path: Path) -> None:
    def flagless(name: bytes) -> bytes:
        content = crafted.zip_of({"x" * len(name): crafted.jpeg()})
        return content.replace(b"x" * len(name), name)

    cases = {
        "Käfer/a.jpg".encode(): "Käfer",  # as a Mac packs it: UTF-8 without the flag
        "Käfer/a.jpg".encode("cp437"): "Käfer",
        "Ka\u0308fer/a.jpg".encode(): "Käfer",  # NFD
    }
    for name, expected in cases.items():
        entries, _ = read(flagless(name), tmp_path)
        assert [entry.class_name for entry in entries] == [expected]
    entries, _ = read(crafted.tar_of({"犬/a.jpg": crafted.jpeg()}), tmp_path)
    assert entries[0].class_name == "犬"


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, packer=st.sampled_from(sorted(PACKERS)))
def test_any_folder_name_is_data(name: str, packer: str, tmp_path: Path) -> None:
    before = set(tmp_path.parent.iterdir())
    content = PACKERS[packer]({f"{name}/a.jpg": b"x", "other/b.jpg": b"y"})
    if name == ".." or re.match("[A-Za-z]:", unicodedata.normalize("NFC", name)):
        assert refused(content, tmp_path)[0] == "unsafe_path"
    else:
        entries, _ = read(content, tmp_path)
        assert all(entry.data.parent == tmp_path for entry in entries)
    assert set(tmp_path.parent.iterdir()) == before


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    packer=st.sampled_from(sorted(PACKERS)),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_garbage_is_refused_in_words(packer: str, changes: list[tuple[int, int]], tmp_path: Path) -> None:
    content = bytearray(PACKERS[packer]({"cat/a.jpg": b"some bytes", "dog/b.jpg": b"more"}))
    for place, value in changes:
        content[place % len(content)] = value
    with suppress(ArchiveError):
        read(bytes(content), tmp_path, SMALL)
