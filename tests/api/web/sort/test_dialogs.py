"""The dialogs that ask for classes."""

from playwright.sync_api import Browser, expect

from tests.api.web.window import window

WALK = """async () => {
  const { walk } = await import("/page/components/sort/walks.js");
  const images = ["a.jpg", "b.jpg", "c.jpg"].map((name) => ({
    file: new File([name], name), name, path: [name], label: null, rejected: false,
    predictions: [{ class_name: "red", probability: 0.9 }],
  }));
  window.labels = [];
  window.view = new AbortController();
  walk(images, () => ["red", "blue"], (image, name) => window.labels.push(name), { signal: view.signal });
  images[0].predictions = [{ class_name: "blue", probability: 0.9 }];
}"""


def test_the_class_of_the_question_is_confirmed(browser: Browser, quick_url: str) -> None:
    """The sort may change while the question is read."""
    with window(browser, quick_url) as page:
        page.goto("/")
        page.evaluate(WALK)
        expect(page.get_by_role("heading", name="Is it red?")).to_be_visible()
        page.keyboard.press("Enter")
        assert page.evaluate("labels") == ["red"]


def test_a_long_press_answers_for_one_image(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        page.evaluate(WALK)
        for key in ("x", "Enter"):
            page.keyboard.down(key)
            page.keyboard.down(key)  # repeats
            page.keyboard.up(key)
        expect(page.get_by_role("dialog")).to_contain_text("3 of 3")
        assert page.evaluate("labels.length") == 2


def test_the_dialogs_close_when_the_view_is_left(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        page.evaluate(WALK)
        page.keyboard.press("/")
        expect(page.get_by_role("dialog")).to_have_count(2)
        page.evaluate("view.abort()")
        expect(page.get_by_role("dialog")).to_have_count(0)


ASK = """async ([title, names]) => {
  const { askClass } = await import("/page/components/sort/class_dialog.js");
  window.answer = askClass(title, names, new AbortController().signal);
}"""


def test_the_class_that_was_typed_is_taken(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        for typed, taken in (("fox", "Fox"), ("red", "red")):
            page.evaluate(ASK, ["Which one?", ["redwing", "foxglove", "Fox"]])
            page.get_by_role("textbox", name="Which one?").fill(typed)
            page.keyboard.press("Enter")
            assert page.evaluate("answer") == taken
