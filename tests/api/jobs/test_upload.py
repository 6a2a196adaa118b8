"""Uploads beyond what HTTP tests reach: the memory of a large archive, and any file name."""

import tracemalloc
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import UploadFile

from api.http.forms import display_name
from api.jobs.form import ImagesForm
from api.jobs.upload import ReceivedUpload, validate_upload
from core.clip.data.decoders import Decoders
from core.settings import Settings
from core.store.storage.blobs import Blobs
from tests.api import crafted


def test_memory_stays_small(tmp_path: Path) -> None:
    noise = [crafted.jpeg(i) + bytes(2_000_000) for i in range(20)]  # 40 MB
    content = crafted.zip_of({f"{'cat' if i % 2 else 'dog'}/{i}.jpg": data for i, data in enumerate(noise)})
    path = tmp_path / "upload.zip"
    path.write_bytes(content)
    del noise, content
    folder = tmp_path / "images"
    folder.mkdir()
    decoders = Decoders(2)
    with path.open("rb") as file:
        form = ImagesForm(archive=UploadFile(file, filename="upload.zip"))
        blobs = Blobs((tmp_path / "blobs").as_uri())
        upload = ReceivedUpload(form, folder, lambda size: None, Settings(), decoders, blobs)
        tracemalloc.start()
        checked = validate_upload(upload)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    decoders.close()
    assert len(checked.images) == 20
    assert peak < 20_000_000


IMPOSSIBLE = ["nul\0", "x" * 10_000, "\ud800", "two\nlines", "\u202egnp.exe", "שועל", "👩‍🚀"]


@settings(max_examples=200)
@given(name=st.text(max_size=600) | st.sampled_from(IMPOSSIBLE))
def test_any_file_name_can_be_shown(name: str) -> None:
    shown = display_name(name)
    assert len(shown) <= 200
    shown.encode()  # No lone surrogate.
    assert not {"\0", "\n", "\r", "\x1b", "\u2028"} & set(shown)
    assert display_name(shown) == shown
