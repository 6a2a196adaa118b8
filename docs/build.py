"""The documentation as a site: `python docs/build.py` writes build/site/index.html.

The pages are written for GitHub. The site has no folders, so some links are rewritten. The site has no code
either, so links to code become text. Zensical (the extra `docs`) builds the site.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
MOVED = {
    r"\]\((?:\.\./)?benchmarks/README\.md": "](benchmarks.md",
    r"\]\(\.\./benchmarks/figures/": "](figures/",
    r"\]\(\.\./README\.md": "](readme.md",
    r"\]\((?:\.\./)?docs/": "](",
    r'(src|srcset)="docs/': r'\1="',
}


def copy_pages(folder: Path) -> None:
    """Copy the pages and their images into an empty folder, with their links adapted to the site."""
    shutil.copytree(ROOT / "docs" / "images", folder / "images")
    shutil.copytree(ROOT / "benchmarks" / "figures", folder / "figures")
    pages = {path.name: path for path in (ROOT / "docs").glob("*.md")}
    pages |= {"readme.md": ROOT / "README.md", "benchmarks.md": ROOT / "benchmarks" / "README.md"}
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        for pattern, here in MOVED.items():
            text = re.sub(pattern, here, text)

        def link(found: re.Match[str]) -> str:
            file = found[2].partition("#")[0]
            return found[0] if not file or file in pages or (folder / file).is_file() else found[1]

        text = re.sub(r"\[([^\]]+)\]\((?!https?:)([^)\s]+)\)", link, text)
        (folder / name).write_text(text, encoding="utf-8")


def main() -> int:
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    PAGES.mkdir(parents=True)
    copy_pages(PAGES)
    shutil.copy2(ROOT / "docs" / "zensical.toml", PAGES.parent)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.call(command, cwd=PAGES.parent)


if __name__ == "__main__":
    sys.exit(main())
