"""Names of files in an upload: unique, and known by their local path."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from clipcite.client.upload import Upload, upload_of_dataset
from clipcite.datasets.dataset import Dataset, Labelled
from clipcite.datasets.image import ImageFile


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


def _sent(upload: Upload) -> dict[str, bytes]:
    """Return each file of an upload by its name there."""
    files = {part.image.name: b"".join(part.image.chunks()) for part in upload.parts}
    if "images.zip" not in files:
        return files
    with zipfile.ZipFile(BytesIO(files["images.zip"])) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
