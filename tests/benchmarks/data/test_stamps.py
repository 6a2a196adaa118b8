"""The stamps: their split, and the error when they are too few."""

from pathlib import Path

from PIL import Image

from benchmarks.data.stamps import NEW_CLASSES, SHOTS, TRAINED_CLASSES, export


def fake_stamps(folder: Path, trained: int = 8, new: int = 7) -> Path:
    for names, count in ((TRAINED_CLASSES, trained), (NEW_CLASSES, new)):
        for below in names.values():
            (folder / below / "cartoon").mkdir(parents=True)
            for i in range(count):
                path = folder / below / ("cartoon" if i % 2 else ".") / f"image{i}.png"
                Image.new("RGBA", (6, 4), (255, 0, 0, 128)).save(path)
            for left_out in ("image0_mirror.png", "flip_image.png", "image0.txt"):
                (folder / below / left_out).write_bytes(b"")
    return folder


def test_six_shots_and_the_rest_is_for_testing(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    export(folder, fake_stamps(tmp_path / "stamps"))
    for name in (*TRAINED_CLASSES, *NEW_CLASSES):
        train, test = (
            sorted(p.name for p in (folder / split / name).iterdir()) for split in ("train", "test")
        )
        assert len(train) == SHOTS
        assert len(test) == (2 if name in TRAINED_CLASSES else 1)
    birds = sorted((folder / "train" / "bird").iterdir()) + sorted((folder / "test" / "bird").iterdir())
    shown = [path.name.partition("_")[2] for path in birds]
    assert len(set(shown)) == 8  # no image is in both splits
    assert shown != sorted(shown)
    again = tmp_path / "again"
    export(again, tmp_path / "stamps")
    assert sorted(p.relative_to(again) for p in again.rglob("*")) == sorted(
        p.relative_to(folder) for p in folder.rglob("*")
    )
