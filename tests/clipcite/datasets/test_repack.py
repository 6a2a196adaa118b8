"""A tar becomes a zip with the same files, or an error that says what to do."""

import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from clipcite.client.errors import InvalidImages
from clipcite.client.upload import model_archive, upload_of
from clipcite.datasets.repack import zip_of_tar
from tests.api import crafted


def unzipped(path: Path) -> dict[str, bytes]:
    """Return the files that the service would find in the repacked archive."""
    (part,) = upload_of(path).parts
    data = b"".join(part.image.chunks())
    assert part.image.size == len(data)
    assert data == b"".join(part.image.chunks())  # A retry reads the upload again.
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.TGZ", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")],
)
def test_a_tar_is_repacked(name: str, mode: str, tmp_path: Path) -> None:
    files = crafted.two_classes() | {"räd 🦊/" + "long " * 40 + ".jpg": crafted.jpeg()}
    (tmp_path / name).write_bytes(crafted.tar_of(files, mode))
    assert unzipped(tmp_path / name) == files


def test_folders_are_left_out_and_a_model_is_repacked_too(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "open_clip_config.json").write_text("{}")
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.add(tmp_path / "folder", "folder")
    with zipfile.ZipFile(io.BytesIO(b"".join(model_archive(tmp_path / "model.tar").chunks()))) as made:
        assert made.namelist() == ["folder/open_clip_config.json"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("cat/a.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(info)
    with pytest.raises(InvalidImages, match=r"link or a device.*--dereference"):
        upload_of(tmp_path / "a.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_damaged_tar_loses_no_entry_silently(mode: str, tmp_path: Path) -> None:
    content = crafted.tar_of(crafted.two_classes(), mode)
    if mode == "w":
        content = content[: len(content.rstrip(b"\0")) + 600]  # Without the padding after the end marker.
    path = tmp_path / "a.tar"
    for end in [0, 100, *range(512, len(content) - 700, 500), *range(512, len(content) - 700, 4_608)]:
        path.write_bytes(content[:end])
        with pytest.raises(InvalidImages, match="cannot be repacked"):
            upload_of(path)


def test_a_broken_header_is_no_end(tmp_path: Path) -> None:
    content = bytearray(crafted.tar_of(crafted.two_classes()))
    content[content.index(b"badger/0.jpg")] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InvalidImages, match="cannot be repacked"):
        upload_of(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "content", [b"", b"no tar", crafted.tar_of_endless_names()], ids=["empty", "text", "endless"]
)
def test_no_tar_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InvalidImages, match="cannot be repacked"):
        upload_of(tmp_path / "a.tar")


def test_memory_stays_small(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(10):
            info = tarfile.TarInfo(f"cat/{number}.jpg")
            info.size = 4_000_000
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    tracemalloc.start()
    made = zip_of_tar(tmp_path / "a.tar")
    total = sum(len(chunk) for chunk in made.chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == made.size
    assert total > 40_000_000
    assert peak < 4_000_000
