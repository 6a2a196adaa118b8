"""Costly images on every route: refused, or decoded within the process's budget while others are served."""

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from api.jobs.report.thumbnails import thumbnails
from core.clip.data.images import ImageLimits
from core.clip.data.loader import read_images
from core.clip.errors import BadImage
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Service, form

SCANS = crafted.jpeg_of_scans(101, 64)
LARGE = crafted.encoded(Image.new("RGBA", (2_000, 2_000)), "PNG")
NAMES = {"class_names": ["red", "green"]}
GUARD = 600


@pytest.fixture
def small_budget(make_service: MakeService) -> Service:
    """Set a decoding budget that the larger images of these tests exceed."""
    return make_service(decode_bytes=20_000_000)


def dry_run(service: Service, content: bytes, count: int = 2) -> dict[str, object]:
    images = [(f"{i}.png", content) for i in range(count)]
    fields = form(images=images, labels=["a", "b"] * (count // 2))
    response = service.client.post("/adapt", params={"dry_run": True}, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, object] = response.json()
    return body


def test_a_costly_image_is_refused_on_every_way_in(fresh: Service) -> None:
    files = [("images", ("a.jpg", SCANS)), ("images", ("b.jpg", crafted.jpeg()))]
    for sent, problems in ((files, ["image_too_costly", None]), (files[:1], None)):
        response = fresh.client.post("/classify", data=NAMES, files=sent)
        if problems is None:
            assert response.status_code == 422
            assert response.json()["errors"][0]["code"] == "image_too_costly"
        else:
            results = response.json()["results"]
            assert [r["error"] and r["error"]["code"] for r in results] == problems
    response = fresh.adapt(images=[("a.jpg", SCANS), ("b.jpg", crafted.jpeg())], labels=["a", "b"])
    assert response.json()["errors"][0]["code"] == "image_too_costly"
    assert "baseline JPEG" in response.json()["errors"][0]["detail"]

    fresh.blobs.put("a", SCANS)
    fresh.blobs.put("b", crafted.jpeg())
    assert list(thumbnails(fresh.app.state.serving, {0: "a", 1: "b", 2: "gone"}, "me")) == [1]
    with pytest.raises(BadImage, match="scans"):
        read_images([SCANS], ImageLimits(), 64)


def test_a_small_image_is_answered_while_large_ones_are_decoded(
    small_budget: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty dry runs wait for memory that is in use; a small image needs none of it."""
    serving = small_budget.app.state.serving
    small = [("images", ("a.jpg", crafted.jpeg())), ("images", ("b.jpg", crafted.jpeg(2)))]
    assert small_budget.client.post("/classify", data=NAMES, files=small).status_code == 200

    release = threading.Event()

    def hold() -> Iterator[None]:
        with serving.decoding.memory(100_000_000, ("other", "adapt")):
            yield

    held = hold()
    next(held)
    with ThreadPoolExecutor(4) as callers:
        runs = [callers.submit(dry_run, small_budget, LARGE) for _ in range(4)]
        while not serving.decoding._blocked:
            assert not release.wait(0.01)
        for files in (small, small[:1]):
            assert small_budget.client.post("/classify", data=NAMES, files=files).status_code == 200
        assert not any(run.done() for run in runs)
        held.close()
        assert all(run.result(GUARD)["images"] == 2 for run in runs)


@pytest.mark.slow
def test_many_dry_runs_stay_within_the_budget(tmp_path: Path) -> None:
    """40 dry runs at once in a fresh process, each with an image that takes 20 MB."""
    (tmp_path / "large").write_bytes(crafted.encoded(Image.new("RGBA", (1_500, 1_500)), "PNG"))
    script = """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from api.jobs.upload import validate_upload
        from core.serving.decoding import Decoders
        from core.settings import Settings
        from tests.api import crafted
        content = Path(sys.argv[1], "large").read_bytes()
        budget = 60_000_000
        decoders = Decoders(16, budget)
        def run(owner, content=content):
            images = [crafted.upload(content), crafted.upload(crafted.jpeg())]
            validate_upload(folder=Path(sys.argv[1]), settings=Settings(), decoders=decoders,
                            owner=str(owner), images=images, labels=["a", "b"])
        def memory(name):  # ru_maxrss begins with the parent's
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
        with ThreadPoolExecutor(40) as callers:
            list(callers.map(lambda owner: run(owner, crafted.jpeg()), range(40)))
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = memory("VmRSS")
        with ThreadPoolExecutor(40) as callers:
            list(callers.map(run, range(40)))
        print((memory("VmHWM") - before) / budget)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD)
    # Besides its image, each of the 40 requests uses about 1 MB of its own.
    assert float(done.stdout) <= 1.1 + 40 / 60
