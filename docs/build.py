"""The documentation as a site: `python docs/build.py` writes build/site/index.html.

The pages are written for GitHub. The site has the pages of `docs`, and some of other folders, so links are
rewritten. The site has no code, so links to code become text. Zensical (the extra `docs`) builds the site.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
ELSEWHERE = {
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/pages/accuracy.md": "benchmarks/accuracy.md",
    "benchmarks/pages/requests.md": "benchmarks/requests.md",
    "benchmarks/pages/sorting.md": "benchmarks/sorting.md",
    "benchmarks/pages/ablations.md": "benchmarks/ablations.md",
    "benchmarks/pages/training-speed.md": "benchmarks/training-speed.md",
    "benchmarks/pages/serving-speed.md": "benchmarks/serving-speed.md",
    "benchmarks/pages/preflight-and-preview.md": "benchmarks/preflight-and-preview.md",
    "benchmarks/pages/trust.md": "benchmarks/trust.md",
    "benchmarks/pages/decisions.md": "benchmarks/decisions.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
}
"""Pages outside `docs`, and their paths on the site."""
FOLDERS = {"docs/images": "images", "benchmarks/figures": "figures"}
FILES = {"docs/theme.css": "theme.css", "api/web/static/icon.svg": "images/icon.svg"}
LINK = re.compile(
    r"""\[(?P<text>[^\]]*)\]\((?P<markdown>[^)\s]+)\)|(?P<html>(?:src|srcset|href)=)"(?P<url>[^"]+)\""""
)


def site_paths() -> dict[Path, Path]:
    """Return the path on the site of each page and image."""
    paths = {page: page.relative_to(DOCS) for page in sorted(DOCS.rglob("*.md"))}
    paths |= {ROOT / source: Path(target) for source, target in (ELSEWHERE | FILES).items()}
    for source, target in FOLDERS.items():
        folder = ROOT / source
        paths |= {file: target / file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    return paths


def copy_pages(folder: Path) -> None:
    """Copy the pages and their images into an empty folder, with their links adapted to the site."""
    paths = site_paths()
    for source, target in paths.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".md":
            shutil.copy2(source, folder / target)
            continue
        text = LINK.sub(partial(_link, source, paths), source.read_text(encoding="utf-8"))
        (folder / target).write_text(text, encoding="utf-8")


def _link(source: Path, paths: dict[Path, Path], found: re.Match[str]) -> str:
    url = found["markdown"] or found["url"]
    if re.match(r"[a-z]+:|#", url):
        return found[0]
    file, mark, anchor = url.partition("#")
    target = (source.parent / file).resolve()
    if target == ROOT / "README.md":
        target, anchor, mark = DOCS / "index.md", "", ""
    if target not in paths:
        return found["text"] or found[0]
    here = os.path.relpath(paths[target], paths[source].parent) + mark + anchor
    return f'{found["html"]}"{here}"' if found["html"] else f"[{found['text']}]({here})"


def main() -> int:
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    PAGES.mkdir(parents=True)
    copy_pages(PAGES)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    config = (DOCS / "zensical.toml").read_text(encoding="utf-8").replace("VERSION", version)
    (PAGES.parent / "zensical.toml").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.call(command, cwd=PAGES.parent)


if __name__ == "__main__":
    sys.exit(main())
