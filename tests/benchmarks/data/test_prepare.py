"""Public images as class folders."""

import shutil
from pathlib import Path

from PIL import Image

from benchmarks.data.folders import read_folders
from benchmarks.data.prepare import CLIPART, NUMBERS, SIDE, main
from core.clip.data.images import open_image


def test_digits_need_only_scikit_learn(tmp_path: Path) -> None:
    main(["digits", str(tmp_path / "digits")])
    data = read_folders(tmp_path / "digits")
    assert sorted(data.class_names) == sorted(f"handwritten number {n}" for n in NUMBERS)
    assert (len(data.train), len(data.test)) == (240, 600)
    names = [example.path.name for example in (*data.train, *data.test)]
    assert len(set(names)) == 840  # no test image is a training image
    assert open_image(data.test[0].path).size == (SIDE, SIDE)


def test_clipart_is_drawn_on_white_without_links_and_copies(tmp_path: Path) -> None:
    for number, part in enumerate(CLIPART.values()):
        folder = tmp_path / "source" / part
        folder.mkdir(parents=True)
        for i in range(20):
            Image.new("RGBA", (400, 40), (number, i, 0, 0)).save(folder / f"{i:02d}.png")
        shutil.copyfile(folder / "03.png", folder / "copy.png")
        (folder / "link.png").symlink_to(folder / "04.png")
    main(["clipart", str(tmp_path / "clipart"), "--source", str(tmp_path / "source")])
    data = read_folders(tmp_path / "clipart")
    assert data.class_names == tuple(sorted(CLIPART))
    assert (len(data.train), len(data.test)) == (16 * 12, 4 * 12)
    names = {example.path.name for example in (*data.train, *data.test)}
    assert names == {f"{i:02d}.png" for i in range(20)}
    with Image.open(data.test[0].path) as image:
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (320, 32), (255, 255, 255))
