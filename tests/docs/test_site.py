"""The pages as a site: valid links, and every route and page listed."""

import re
import tomllib
from pathlib import Path

from api.app import create_app
from core.settings import Settings
from docs.build import ELSEWHERE, copy_pages
from tests.docs.pages import PAGES, ROOT, name_of

LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)\"""")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and the site derive from headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head).lower()) for head in heads]
    return {re.sub(r"\s", "-", word.strip()) for word in words}


def broken(page: Path, root: Path) -> list[str]:
    """List links that lead nowhere or out of `root`."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    bad = []
    for link in ("".join(found) for found in LINK.findall(text)):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        fine = target.exists() and target.is_relative_to(root)
        if not fine or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            bad.append(link)
    return bad


def test_every_link_leads_somewhere() -> None:
    pages = [*PAGES, *(ROOT / name for name in ELSEWHERE)]
    assert {name_of(page): bad for page in pages if (bad := broken(page, ROOT))} == {}


def test_the_rows_of_a_table_have_equal_columns() -> None:
    for page in PAGES:
        for table in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(columns) == 1, (name_of(page), table)


def test_the_site_is_whole(tmp_path: Path) -> None:
    """None of its links leads out of it."""
    copy_pages(tmp_path)
    assert [(page.name, bad) for page in tmp_path.rglob("*.md") for bad in broken(page, tmp_path)] == []


def menu() -> dict[str, str]:
    """Return the title of each page in the menu."""
    entries = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    titles = {}
    for entry in entries:
        for name, content in entry.items():
            pages = [{name: content}] if isinstance(content, str) else content
            titles |= {path: title for page in pages for title, path in page.items()}
    return titles


def test_every_page_is_in_the_menu(tmp_path: Path) -> None:
    copy_pages(tmp_path)
    assert sorted(menu()) == sorted(page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.md"))


def test_every_route_is_listed(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "rest-api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", page, re.MULTILINE)
    paths = create_app(Settings(data=tmp_path, cache=tmp_path)).openapi()["paths"]
    assert sorted(listed) == sorted((method.upper(), path) for path, of in paths.items() for method in of)
