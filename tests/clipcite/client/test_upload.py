"""Names of files in an upload: unique, and known by their local path."""

import os
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from clipcite.client.upload import Upload, upload_of, upload_of_dataset
from clipcite.datasets.dataset import Dataset, Labelled
from clipcite.datasets.image import ImageFile
from clipcite.errors import InvalidImages


@pytest.mark.parametrize("class_name", ["nut", "nut/bolt"])
def test_files_with_the_same_name_stay_apart(class_name: str, tmp_path: Path) -> None:
    """A class name with a slash travels as a field, any other as a folder of a zip."""
    paths = [tmp_path / name for name in ("a/1.jpg", "b/1.jpg", "c/1-2.jpg", 'c/my "best".jpg')]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    images = [Labelled(ImageFile.of_file(path), class_name) for path in paths]
    images.append(Labelled(images[0].image, class_name, "test"))
    upload = upload_of_dataset(Dataset("images", images))
    sent = _sent(upload)
    assert [sent[name] for name in upload.names] == [b"0", b"1", b"2", b"3", b"0"]
    assert [upload.local_name(name) for name in sent] == [str(path) for path in [*paths, paths[0]]]


def test_file_names_that_are_not_utf_8_are_sent_with_question_marks(tmp_path: Path) -> None:
    for number, name in enumerate((b"K\xe4fer.png", b"K\xf6fer.png", "Käfer.png".encode())):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / os.fsdecode(name)).write_bytes(b"%d" % number)
    upload = upload_of(tmp_path)
    assert [*_sent(upload)] == ["train/cat/Käfer.png", "train/cat/K?fer.png", "train/cat/K?fer-2.png"]
    assert upload.local_name("train/cat/K?fer-2.png") == f"{tmp_path}/cat/K?fer.png"
    (tmp_path / "cat").rename(tmp_path / os.fsdecode(b"K\xe4tzchen"))
    with pytest.raises(InvalidImages, match=r"The class name 'K\?tzchen' is not UTF-8"):
        upload_of(tmp_path)


def test_a_full_disk_is_an_error_with_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(InvalidImages, match=r"can't be packed in \S+: No space left on device"):
        upload_of({"nut": [b"0"], "bolt": [b"1"]})


def _sent(upload: Upload) -> dict[str, bytes]:
    """Return each file of an upload by its name there, and close the upload."""
    files = {
        name: content if isinstance(content, bytes) else content.read()
        for _, (name, content, _) in upload.files
    }
    upload.close()
    if "images.zip" not in files:
        return files
    with zipfile.ZipFile(BytesIO(files["images.zip"])) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}
