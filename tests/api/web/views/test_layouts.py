"""The page's folder layouts, which equal the service's archive layouts."""

from typing import Any

from playwright.sync_api import Browser

from tests.api.web.window import window
from tests.layouts import layouts

SORT = """async (layouts) => {
  const { assignClasses } = await import("/page/lib/files/dropped_files.js");
  const place = (files) => {
    const items = files.map((file) => ({ path: file.split("/"), file: new File(["x"], file) }));
    try {
      const placed = assignClasses(items).filter(({ className }) => className !== null);
      return placed.map(({ file, className, split }) => [file.name, `${split}:${className}`]);
    } catch (error) {
      return error.message;
    }
  };
  return layouts.map(place);
}"""


def test_the_common_table_of_layouts(browser: Browser, quick_url: str) -> None:
    table = layouts("page")
    with window(browser, quick_url) as page:
        page.goto("/")
        found: list[Any] = page.evaluate(SORT, [layout.files for layout in table])
    for layout, placed in zip(table, found, strict=True):
        if layout.expected is None:
            assert placed.startswith("Class folders outside test and train: figures."), layout.name
        else:
            # Browsers write ":" for "/" in the name of a file.
            assert {name.replace(":", "/"): place for name, place in placed} == layout.expected, layout.name
