"""Labels: which are saved, learned, or lost."""

from playwright.sync_api import Browser

from tests.api.web.window import window

SAVED = """async () => {
  const { save } = await import("/page/lib/sorting/corrections.js");
  const image = { file: new File(["photo"], "a.jpg"), name: "a.jpg", label: "fox", saved: null };
  const sorting = { model: "mdl_1", unsaved: [image], changed: () => {} };
  const done = save(sorting, new AbortController().signal);
  image.label = "owl";
  await done;
  return image.saved.class_name;
}"""


def test_a_label_that_changes_during_the_upload_is_not_saved(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        page.route("**/feedback", lambda route: route.fulfill(json={"data": []}))
        assert page.evaluate(SAVED) == "fox"
