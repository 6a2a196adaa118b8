"""Images that cost too much are refused on every route. test_attacks.py measures the accepted ones."""

from collections.abc import Callable, Sequence

import httpx
import pytest

from clipcite.types.images import Image
from core.clip.data.decoders import decoded_apart
from core.clip.data.header import ImageLimits
from core.clip.data.loader import read_images
from core.clip.errors import BadImage
from core.clip.evaluation.label_issues import LabelIssue
from tests.api import crafted
from tests.api.service import Service, form
from tests.core.clip.reports import held_out, report_fields
from tests.core.store import samples

SIDE = 1_000
LIMITS = ImageLimits(max_pixels=SIDE * SIDE)
NAMES = {"class_names": ["red", "green"]}
SMALL = crafted.jpeg()
COPIES = 4
SHOWN = [f"jobs/worst/{i}" for i in range(COPIES)]
"""Storage keys of the images that the report shows."""
NOT_SHOWN = "not shown"
"""Result for an image that the report leaves out."""
Send = Callable[[Sequence[bytes]], str | None]

REFUSED = {
    "JPEG of scans": (crafted.jpeg_of_scans(101, 64), "image_too_costly"),
    "PNG": (crafted.pixel_bomb(SIDE + 1), "too_many_pixels"),
}
SETTINGS = {"max_image_pixels": LIMITS.max_pixels}


@pytest.fixture(scope="module")
def job_id(shared: Service) -> str:
    """Return a job whose report shows its first COPIES images."""
    for key in SHOWN:
        shared.blobs.put(key, SMALL)
    rows = [
        Image(key, "ab"[i % 2], file_name=f"{i}.png", sha256="0" * 64, bytes=3) for i, key in enumerate(SHOWN)
    ]
    made = samples.new_job(shared.database, images=rows)
    claim = samples.claimed(shared.database, made)
    shown = [LabelIssue(i, 0, 1, 0.8, 0.1) for i in range(COPIES)]
    found = report_fields(held_out(images=15), label_issues=shown) | {"mistakes": []}
    assert samples.publish(shared.database, claim)
    samples.store_report(shared.database, shared.blobs, made, found, {"verdict": "better"})
    return made


@pytest.fixture(params=["classify", "dry run", "thumbnails", "training"])
def send(request: pytest.FixtureRequest, shared: Service) -> Send:
    """Send images by one route. Return the code of the first refusal, None if all were decoded."""

    def classify(contents: Sequence[bytes]) -> str | None:
        files = [("images", ("a", content)) for content in contents]
        return code_of(shared.client.post("/classify", data=NAMES, files=files))

    def dry_run(contents: Sequence[bytes]) -> str | None:
        files = [("a", content) for content in [*contents, SMALL]]
        fields = form(images=files, labels=["a" if i else "b" for i in range(len(files))])
        return code_of(shared.client.post("/adapt", params={"dry_run": True}, **fields))

    def code_of(answer: httpx.Response) -> str | None:
        if answer.status_code == 200:
            return None
        assert answer.status_code == 422, answer.text
        return str(answer.json()["errors"][0]["code"])

    def thumbnails(contents: Sequence[bytes]) -> str | None:
        path = f"/jobs/{request.getfixturevalue('job_id')}/report"  # puts the images that are not replaced
        for key, content in zip(SHOWN, contents, strict=False):
            shared.blobs.put(key, content)
        answer = shared.client.get(path, headers={"accept": "text/html"})
        assert answer.status_code == 200, answer.text
        return None if answer.text.count('<img src="data:image/jpeg') == COPIES else NOT_SHOWN

    def training(contents: Sequence[bytes]) -> str | None:
        try:
            with decoded_apart(2):
                read = read_images([Image(content, "") for content in contents], LIMITS, 64)
        except BadImage as problem:
            return problem.code
        assert [image.shape[0] for image in read] == [3] * len(contents)
        return None

    ways: dict[str, Send] = {
        "classify": classify,
        "dry run": dry_run,
        "thumbnails": thumbnails,
        "training": training,
    }
    return ways[request.param]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_file_is_refused(name: str, send: Send) -> None:
    content, code = REFUSED[name]
    assert send([content]) in {code, NOT_SHOWN}
    assert send([SMALL] * COPIES) is None
