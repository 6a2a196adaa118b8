"""Each data set format is recognised, read and described."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipcite.datasets.dataset import Dataset
from clipcite.datasets.detect import read
from clipcite.errors import InvalidImages
from tests.clipcite.painted import paint
from tests.layouts import Layout, layouts


def counts(found: Dataset) -> dict[tuple[str, str], int]:
    return dict(Counter((one.split, one.class_name) for one in found.images))


@pytest.mark.parametrize("layout", layouts(), ids=str)
def test_the_common_table_of_layouts(layout: Layout, tmp_path: Path) -> None:
    for name in layout.files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"an image")
    if layout.expected is None:
        with pytest.raises(InvalidImages, match="beside"):
            read(tmp_path)
        return
    files = {one.image.path: f"{one.split}:{one.class_name}" for one in read(tmp_path).images}
    assert {
        str(path.relative_to(tmp_path)): place for path, place in files.items() if path
    } == layout.expected


def test_plain_class_folders_with_loose_and_hidden_images(tmp_path: Path) -> None:
    paint(tmp_path, "red", 2)
    paint(tmp_path, "green/by phone", 2)
    paint(tmp_path, ".trash/blue", 2)
    paint(tmp_path, ".", 3)
    found = read(tmp_path)
    assert counts(found) == {("train", "red"): 2, ("train", "green"): 2}
    assert found.notes == [
        "3 images are outside class folders and were ignored: '0.png', '1.png', '2.png'",
        "2 images are in subfolders of a class folder and belong to that class: 'green/by phone/0.png', "
        "'green/by phone/1.png'",
    ]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    paint(tmp_path, "store/green", 2)
    images = tmp_path / "images"
    paint(images, "red", 2)
    (images / "green").symlink_to(tmp_path / "store" / "green")
    (images / "red" / "all").symlink_to(images)  # A loop.
    (tmp_path / "store" / "green" / "back").symlink_to(images / "red")
    files = [one.image.path for one in read(images).images]
    assert [str(file.relative_to(images)) for file in files if file] == [
        *(f"green/{name}.png" for name in "01"),
        *(f"green/back/{name}.png" for name in "01"),
        *(f"red/{name}.png" for name in "01"),
    ]


def test_unreadable_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("red", "green", "blue"):
        paint(tmp_path, name, 1)
    iterdir = Path.iterdir

    def denied(folder: Path) -> Iterator[Path]:
        if folder.name == "blue":
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InvalidImages, match=r"blue can't be read: Permission denied\."):
        read(tmp_path)


def test_validation_images_are_the_test_set_if_there_is_no_other(tmp_path: Path) -> None:
    for place in ("train/red", "train/green", "valid/red"):
        paint(tmp_path, place, 2)
    found = read(tmp_path)
    assert found.count("test") == 2
    assert found.notes == ["there are no test images, so the validation images are used as test"]
    paint(tmp_path, "test/green", 1)
    found = read(tmp_path)
    assert counts(found)[("test", "green")] == found.count("test") == 1
    assert found.notes == ["there are test images, so 2 validation images were ignored"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "labels.csv",
            "\ufefffilename;Class\nimages/{0};red\nimages/{1};green\nimages/{2};\ngone.png;red\n",
        ),
        (
            "labels.csv",
            "training,{0},red\nunassigned,gs://bucket/x/{1},green\ntest,{2},\ntrain,gone.png,red\n",
        ),
        (
            "labels.tsv",
            "id\tpath\ttag\n1\timages\\{0}\tred\n2\timages\\{1}\tgreen\n3\t{2}\t\n4\tgone.png\tred",
        ),
        (
            "labels.jsonl",
            '{{"image": "images/{0}", "label": "red"}}\n\n{{"image": "{1}", "label": "green"}}\n'
            '{{"image": "{2}", "label": null}}\n{{"image": "gone.png", "label": "red"}}\n',
        ),
    ],
)
@pytest.mark.parametrize("given", ["the file", "its folder"])
def test_manifests(file: str, text: str, given: str, tmp_path: Path) -> None:
    names = [path.name for path in paint(tmp_path, "images", 3)]
    (tmp_path / file).write_text(text.format(*names), encoding="utf-8")
    found = read(tmp_path / file if given == "the file" else tmp_path)
    assert counts(found) == {("train", "red"): 1, ("train", "green"): 1}
    assert found.notes == ["ignored 1 row without a label", "ignored 1 missing file (gone.png, …)"]
    assert found.kind == ("JSONL manifest" if file.endswith("jsonl") else "CSV manifest")


def test_a_manifest_with_splits_and_several_labels(tmp_path: Path) -> None:
    paint(tmp_path, ".", 3)
    rows = ["0.png,red,train", "1.png,green,train", "2.png,red,test", "1.png,red,train"]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,subset", *rows]))
    found = read(tmp_path)
    assert counts(found) == {("train", "red"): 1, ("test", "red"): 1}
    assert found.notes == ["ignored 1 image with several labels"]


def test_only_known_splits_are_read(tmp_path: Path) -> None:
    paint(tmp_path, ".", 4)
    rows = ["0.png,red,Train ", "1.png,green,", "2.png,red,unassigned", "3.png,red,{}"]
    for word, split in (("eval", "test"), ("Holdout", "test"), ("training", "train")):
        (tmp_path / "all.csv").write_text("\n".join(["file,label,split", *rows]).format(word))
        assert [one.split for one in read(tmp_path).images] == ["train", "train", "train", split]
    for word in ("query", "2"):
        (tmp_path / "all.csv").write_text("\n".join(["file,label,split", *rows]).format(word))
        with pytest.raises(InvalidImages, match=f"Unknown splits in this CSV manifest: '{word}'. Use train"):
            read(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
def test_names_are_read_as_unicode_or_not_at_all(encoding: str, tmp_path: Path) -> None:
    paint(tmp_path, ".", 2)
    rows = ["file;label", "0.png;Käfer", "1.png;Kröte"]
    (tmp_path / "all.csv").write_text("\r\n".join(rows), encoding=encoding, newline="")
    if encoding in {"cp1252", "utf-16-le"}:
        with pytest.raises(InvalidImages, match=r"all.csv is not UTF-8\. In Excel, save it as CSV UTF-8"):
            read(tmp_path)
    else:
        assert read(tmp_path).class_names == ["Käfer", "Kröte"]


def test_a_file_in_another_folder_is_shown(tmp_path: Path) -> None:
    """The files of b/ are missing, and a/ has files of the same names."""
    paint(tmp_path, "a", 6)
    rows = ["a/0.png,red", "a/1.png,red", "b/0.png,green", "b/2.png,green", "b/3.png,green", "c/3.png,green"]
    (tmp_path / "all.csv").write_text("\n".join(["file,label", *rows]))
    found = read(tmp_path)
    assert {one.image.name: one.class_name for one in found.images} == {
        "0.png": "red",
        "1.png": "red",
        "2.png": "green",
    }
    assert found.notes == [
        "ignored 3 missing files (b/0.png, …)",
        "matched 1 file by name only (b/2.png is a/2.png, …)",
    ]
    (tmp_path / "all.csv").write_text(f"file,label\na/0.png,red\n{'long' * 80}.png,red\n")
    assert len(read(tmp_path).images) == 1


def test_hugging_face_imagefolder(tmp_path: Path) -> None:
    """Each split has its metadata in its folder, and the class has a column of its own."""
    for split, number in (("train", 4), ("validation", 2)):
        paint(tmp_path, split, number)
        lines = [
            {"file_name": f"{i}.png", "colour": ("red", "green")[i % 2], "by": str(i)} for i in range(number)
        ]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read(tmp_path, label_column="colour")
    assert found.summary() == (
        "found: Hugging Face imagefolder, 2 classes, 6 images (2 test images); there are no test images, so "
        "the validation images are used as test"
    )
    assert counts(found)[("train", "red")] == 2
    with pytest.raises(InvalidImages, match=r"Ambiguous class column.*colour, by.*--label-column"):
        read(tmp_path / "validation")
    with pytest.raises(InvalidImages, match="no column 'color'"):
        read(tmp_path, label_column="color")


def task(file: str, *people: list[str], cancelled: bool = False) -> dict[str, Any]:
    results = [{"type": "choices", "value": {"choices": chosen}} for chosen in people]
    annotations = [{"was_cancelled": cancelled, "result": [one]} for one in results]
    return {
        "id": 1,
        "data": {"image": file},
        "annotations": annotations,
        "predictions": [{"result": [{"type": "choices", "value": {"choices": ["blue"]}}]}],
    }


def test_label_studio(tmp_path: Path) -> None:
    paint(tmp_path, "images", 8)
    tasks = [
        task("/data/upload/3/0a1b2c3d-0.png", ["red"]),
        task("/data/local-files/?d=images/1.png", ["green"], ["green"], ["red"]),
        task("s3://bucket/some%20where/2.png", ["red"]),
        task("http://host/x/3.png?token=1", ["green"]),
        task("4.png", ["green"], ["red"]),  # A tie.
        task("5.png", ["green", "red"]),  # Several labels at once.
        task("6.png", ["green"], cancelled=True),
        task("7.png"),
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = read(tmp_path)
    assert counts(found) == {("train", "red"): 2, ("train", "green"): 2}
    assert found.summary() == (
        "found: Label Studio export, 2 classes, 4 images; ignored 1 image with conflicting annotations; "
        "ignored 1 annotation with several choices; ignored 2 rows without a label"
    )
    small = [{"image": "0.png", "id": 1, "choice": "red", "annotator": 1, "annotation_id": 1}]
    small += [{"image": "1.png", "id": 2, "annotator": 1, "annotation_id": 2}]
    (tmp_path / "export.json").write_text(json.dumps(small))
    assert counts(read(tmp_path / "export.json")) == {("train", "red"): 1}


def test_class_folders_come_before_a_table_beside_them(tmp_path: Path) -> None:
    paint(tmp_path, "red", 1)
    paint(tmp_path, "green", 1)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    assert read(tmp_path).notes == ["ignored notes.csv"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "contains images without labels"),
        ({"a.csv": "file,label\nx.png,red\n"}, "'x.png' is not below"),
        ({"a.csv": "file,label\n0.png,\n"}, "No image in this CSV manifest has a label"),
        ({"a.csv": "one,two\n1,2\n"}, "no column of file names"),
        ({"a.jsonl": '{"file": 1}\n['}, "Line 2 of a.jsonl is not JSON"),
        ({"a.csv": "file,label\n", "b.csv": "file,label\n"}, "several manifests"),
    ],
)
def test_unreadable_data_sets_are_refused_with_a_reason(
    files: dict[str, str], says: str, tmp_path: Path
) -> None:
    paint(tmp_path, ".", 1)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidImages, match=says):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_a_tar_is_refused_with_the_command_that_unpacks_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InvalidImages, match=r"is a tar. Unpack it with tar xf, and use the folder."):
        read(tmp_path / name)
