"""The page as served: public, under a strict policy, small and complete."""

import io
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pillow_heif
import pytest
import segno
from PIL import Image

from api.jobs.report.style import STYLE_SOURCE
from api.middleware.auth import needed_scopes
from api.web.static_files import STATIC
from tests.api.service import Service, assert_problem

FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.*"))
# As they are sent, compressed.
MAX_BYTES = 112_000  # without the Sort view and /docs, which are loaded when they are opened
MAX_SORT_BYTES = 42_000
OF_DOCS = ("docs.html", "docs.css", "views/docs.js")


@pytest.fixture(scope="module")
def locked(new_service: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    with new_service(admin_key="k" * 32) as made:
        yield made


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/page/app.js",
        "/page/styles/base.css",
        "/page/icon.svg",
        "/page/swagger/swagger-ui-bundle.js",
    ],
)
def test_the_page_is_public_and_has_a_strict_policy(locked: Service, path: str) -> None:
    client = locked.client
    response = client.get(path)
    assert response.status_code == 200
    policy = dict(
        part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["style-src"] == f"'self' {STYLE_SOURCE}"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in str(policy)
    assert policy.get("require-trusted-types-for") == (None if path == "/docs" else "'script'")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["permissions-policy"].startswith("camera=(self), microphone=()")
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", response.headers["etag"])


def test_cached_files_are_not_sent_again(fresh: Service) -> None:
    first = fresh.client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = fresh.client.get("/", headers={"if-none-match": f'W/{first.headers["etag"]}, "other"'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert "content-security-policy" in again.headers
    assert fresh.client.get("/", headers={"if-none-match": '"other"'}).status_code == 200


def test_the_page_opens_no_other_route(locked: Service) -> None:
    client = locked.client
    assert_problem(client.get("/page/../jobs"), 401, "unauthorized")  # The client asks for /jobs.
    for path in ("/page/%2e%2e/jobs", "/page/__init__.py"):
        assert_problem(client.get(path), 404, "not_found")
    assert_problem(client.get("/page/nothing.js"), 404, "not_found")
    assert_problem(client.post("/page/app.js"), 405, "method_not_allowed")
    assert_problem(client.get("/jobs"), 401, "unauthorized")


def test_a_thumbnail_of_what_browsers_cannot_show(locked: Service) -> None:
    def post(body: bytes, key: str = "k" * 32) -> httpx.Response:
        return locked.client.post("/thumbnail", content=body, headers={"Authorization": f"Bearer {key}"})

    photo = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (900, 600), "red")).save(photo)
    assert_problem(post(photo.getvalue(), "no key"), 401, "unauthorized")
    assert needed_scopes("POST", "/thumbnail") == {"adapt", "classify"}
    answer = post(photo.getvalue())
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (512, 341)
    assert_problem(post(b"no image"), 422, "not_an_image")


def test_an_https_address_as_qr_code(locked: Service) -> None:
    def get(url: str, key: str = "k" * 32) -> httpx.Response:
        return locked.client.get("/qr", params={"url": url}, headers={"Authorization": f"Bearer {key}"})

    address = "https://clipcite.test/#/try/mdl_1"
    assert_problem(get(address, "no key"), 401, "unauthorized")
    assert needed_scopes("GET", "/qr") == {"adapt", "classify"}
    assert get(address).headers["content-type"] == "image/svg+xml"
    drawn = io.BytesIO()
    segno.make_qr(address).save(drawn, "svg", scale=4, light="#fff")
    assert get(address).content == drawn.getvalue()
    assert get(f"{address:x<500}").status_code == 200
    for wrong in ("", "http://clipcite.test/", f"{address:x<501}"):
        assert_problem(get(wrong), 422, "invalid_request", "https://.*500")


def test_the_page_is_small_and_loads_nothing_from_other_sites(locked: Service) -> None:
    texts, sizes = {}, {}
    for name in FILES:
        response = locked.client.get(f"/page/{name}", headers={"Accept-Encoding": "gzip"})
        texts[name], sizes[name] = response.text, response.num_bytes_downloaded
        assert texts[name] == (STATIC / name).read_text(encoding="utf-8")
    sort = {name for name in FILES if "/sort" in name}
    assert sum(sizes[name] for name in sort) < MAX_SORT_BYTES
    assert sum(sizes[name] for name in FILES if name not in {*sort, *OF_DOCS}) < MAX_BYTES
    for name, text in texts.items():
        elsewhere = re.findall(
            r"""(?:src|href|from|import|url)\s*[=(]?\s*["']?(?:https?:)?//[^"')\s]+""", text
        )
        assert elsewhere == [], name
        assert "innerHTML" not in text


def test_every_file_is_used() -> None:
    """Every file is used, and every used file exists."""
    todo, seen = ["index.html", "docs.html", "starting.html", "views/sort.js"], set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            text = (STATIC / name).read_text()
            todo += re.findall(r'"/page/(?!swagger/)([\w./]+)"', text)
            folder = posixpath.dirname(name)
            todo += [
                posixpath.normpath(posixpath.join(folder, path))
                for path in re.findall(r'from "(\.[\w./]+)"', text)
            ]
    assert sorted(seen) == FILES
