"""The HTML sheet: complete, self-contained, and safe with any class and file name."""

import re
from html.parser import HTMLParser
from pathlib import Path

from demo.sheet import sheet, write_sheet
from tests.demo.samples import result

EVIL = '<script>alert("x")</script>&\'"'
VOID = {"meta", "img"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_names_are_escaped() -> None:
    compared = result([EVIL, "b", EVIL], ["b", "b", EVIL], [EVIL, EVIL, EVIL], [EVIL, "b"])
    reader = read(sheet(compared, [EVIL]))
    assert "script" not in reader.seen
    assert [image["alt"] for image in reader.images] == [f"{EVIL}, <0>.png", "b, <1>.png"]
    assert any(EVIL in text for text in reader.text)


def test_gains_and_losses_stand_with_their_counts() -> None:
    compared = result(
        truths=["a", "a", "a", "b", "new"],
        stock=["b", "b", "a", "a", "a"],
        adapted=["a", "a", "b", "new", "a"],
        trained=["a", "b"],
    )
    html = sheet(compared, ["A note."])
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "Wrong before, correct now: 2",
        "Correct before, wrong now: 1",
        "Wrong before and now, with a different prediction: 1",
    ]
    text = "".join(read(html).text)
    assert "4 of 5 held-out images have a different prediction" in text
    assert "0 correct, 1 wrong" in text
    assert "✗ stock: b, 80%" in text
    assert "✓ adapted: a, 80%" in text
    assert "A note." in text


def test_nothing_changed() -> None:
    html = sheet(result(["a", "b"], ["a", "b"], ["a", "b"], ["a", "b"]), [])
    assert html.count(">None.</p>") == 3
    assert "Trained classes: a, b.</p>" in html


def test_one_file_for_any_screen(tmp_path: Path) -> None:
    path = write_sheet(tmp_path / "demo-result", result(["a"], ["b"], ["a"], ["a", "b"]), [])
    html = path.read_text()
    assert path.name == "index.html"
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/jpeg;base64,")
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
