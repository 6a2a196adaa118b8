"""Multipart bodies: correct in length and content."""

import email
import email.policy
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipcite import APIResponseValidationError
from clipcite.client.errors import InvalidImages
from clipcite.client.multipart import FilePart, Multipart, zip_of
from clipcite.client.retry import Retry, retry_after
from clipcite.client.sse import EventParser
from clipcite.client.upload import upload_of
from clipcite.datasets.image import ImageFile


def read(image: ImageFile | Multipart) -> bytes:
    return b"".join(image.chunks())


def test_a_zip_is_made_while_it_is_read(tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    big.write_bytes(bytes(range(256)) * 5000)
    images = [
        ("train/räd/1.png", ImageFile.of_file(big)),
        ("train/b/2.png", ImageFile.of_bytes("2.png", b"two")),
    ]
    made = zip_of(images)
    data = read(made)
    assert made.size == len(data)
    assert data == read(made)  # A retry reads the upload again.
    assert max(len(chunk) for chunk in made.chunks()) < 300_000
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["train/räd/1.png", "train/b/2.png"]
        assert archive.read("train/räd/1.png") == big.read_bytes()

    def unknown() -> Iterator[bytes]:
        yield b"three"

    assert zip_of([*images, ("train/b/3.png", ImageFile("3.png", unknown))]).size is None


def test_file_names_that_are_not_utf_8_are_sent_with_question_marks(tmp_path: Path) -> None:
    for number, name in enumerate((b"K\xe4fer.png", b"K\xf6fer.png", "Käfer.png".encode())):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / os.fsdecode(name)).write_bytes(b"%d" % number)
    upload = upload_of(tmp_path)
    with zipfile.ZipFile(io.BytesIO(read(upload.parts[0].image))) as archive:
        assert archive.namelist() == ["train/cat/Käfer.png", "train/cat/K?fer.png", "train/cat/K?fer-2.png"]
    assert upload.local_name("train/cat/K?fer-2.png") == f"{tmp_path}/cat/K?fer.png"
    (tmp_path / "cat").rename(tmp_path / os.fsdecode(b"K\xe4tzchen"))
    with pytest.raises(InvalidImages, match=r"The class name 'K\?tzchen' is not UTF-8"):
        upload_of(tmp_path)


def test_the_multipart_body_is_well_formed() -> None:
    body = Multipart(
        [("name", 'a "b"')], [FilePart("images", ImageFile.of_bytes('x"\r\n.png', b"\r\n--data\r\n"))]
    )
    data = read(body)
    assert body.size == len(data)
    message = email.message_from_bytes(
        b"Content-Type: " + body.content_type.encode() + b"\r\n\r\n" + data, policy=email.policy.HTTP
    )
    field, file = message.iter_parts()
    assert field.get_payload(decode=True) == b'a "b"'
    assert file.get_filename() == "x%22%0D%0A.png"
    assert file.get_payload(decode=True) == b"\r\n--data\r\n"


def test_events_are_complete_across_any_chunk_boundaries() -> None:
    wire = b"retry: 2000\n\n: ping\n\nevent: log\n"
    wire += b'data: {"seq":2,"at":"2026-11-25T02:05:12Z","type":"started","data":{}}\nid: 2\n\n'
    parser = EventParser()
    found = [event for i in range(len(wire)) for event in parser.feed(wire[i : i + 1])]
    assert [(event.seq, event.type) for event in found] == [(2, "started")]
    with pytest.raises(APIResponseValidationError, match="not JSON"):
        parser.feed(b"data: {broken\n\n")


def test_pauses() -> None:
    retry = Retry(attempts=4, first_seconds=1, longest_seconds=60)
    assert 0.5 <= (retry.pause(1) or 0) <= 1
    assert 2 <= (retry.pause(3) or 0) <= 4
    assert retry.pause(4) is None
    assert retry.pause(1, {"retry-after": "7"}) == 7
    assert retry.pause(1, {"retry-after": "61"}) is None
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
