"""The dialogs that ask for classes."""

from string import ascii_lowercase

from playwright.sync_api import Browser, expect

from tests.api.web.window import window

WALK = """async () => {
  const { walk } = await import("/page/components/sort/walks.js");
  const photos = [0, 1, 2].map((position) => ({
    position, file: `${position}.jpg`, name: `${position}.jpg`, answer: null,
    place: { class_name: "red", probability: 0.9, something_else: false },
  }));
  window.labels = [];
  window.view = new AbortController();
  window.pile = {
    names: ["red", "blue"], state: null, originals: new Map(), path: "/piles/none", photosOf: () => photos,
    answer: (answers) => window.labels.push(...answers.map(({ said, class_name: name }) => name ?? said)),
  };
  walk(pile, photos.map(({ position }) => ({ position, drawn: false })), "chosen", view.signal);
  photos[0].place = { class_name: "blue", probability: 0.9, something_else: false };
}"""


def test_the_class_of_the_question_is_confirmed(browser: Browser, quick_url: str) -> None:
    """The sort may change while the question is read."""
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(WALK)
        expect(page.get_by_role("heading", name="Is it red?")).to_be_visible()
        page.keyboard.press("Enter")
        assert page.evaluate("labels") == ["red"]


def test_neither_guess_nor_label_is_shown_for_a_drawn_image(browser: Browser, quick_url: str) -> None:
    """What was said of its group would be confirmed without a look."""
    grouped = """answer: { said: "class", class_name: "blue", how: "group" }"""
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(WALK.replace("answer: null", grouped))
        expect(page.get_by_role("heading", name="You said: blue")).to_be_visible()
        page.keyboard.press("Escape")
        page.evaluate(WALK.replace("answer: null", grouped).replace("drawn: false", "drawn: true"))
        expect(page.get_by_role("heading", name="Which class is it?")).to_be_visible()
        expect(page.get_by_role("button", name="Right")).to_have_count(0)
        page.keyboard.press("1")
        expect(page.get_by_role("dialog")).to_contain_text("2 of 3")
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("heading", name="You said: blue")).to_be_visible()


def test_a_long_press_answers_for_one_image(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(WALK)
        for key in ("x", "Enter"):
            page.keyboard.down(key)
            page.keyboard.down(key)  # repeats
            page.keyboard.up(key)
        expect(page.get_by_role("dialog")).to_contain_text("3 of 3")
        assert page.evaluate("labels.length") == 2


def test_a_digit_is_the_class_that_its_button_shows(browser: Browser, quick_url: str) -> None:
    """Another person may add a class while the question is read."""
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(WALK)
        expect(page.get_by_role("button", name="blue")).to_be_visible()
        page.evaluate("pile.names = ['green', 'red', 'blue']")
        page.keyboard.press("3")
        page.keyboard.press("2")
        assert page.evaluate("labels") == ["blue"]


def test_the_dialogs_close_when_the_view_is_left(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
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


GROUPS = """async () => {
  const { groupWalk } = await import("/page/components/sort/walks.js");
  const group = (kind, first) => {
    const members = [0, 1, 2].map((i) => first + i);
    return { kind, shown: members, members };
  };
  const groups = [group("least_like", 0), ...Array.from({ length: 11 }, (_, i) => group("alike", 3 * i + 3))];
  window.given = [];
  const pile = {
    names: ["red"], tally: "", state: null, originals: new Map(), path: "/piles/none",
    photosOf: (positions) => positions.map((position) => (
      { position, file: `${position}.jpg`, name: `${position}.jpg` })),
    answer: (answers) => window.given.push(answers),
    addEventListener: () => {}, removeEventListener: () => {},
  };
  window.again = groupWalk(pile, groups, new AbortController().signal);
}"""


def test_new_groups_are_offered_after_ten(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(GROUPS)
        asked = page.get_by_role("dialog", name="Are any of these none of your classes?")
        expect(asked).to_contain_text("Group 1 of 12")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="What are these?")).to_contain_text("Group 2 of 12")
        assert page.evaluate("given") == [
            [{"positions": [0, 1, 2], "said": "not_class", "class_name": None, "how": "group"}]
        ]
        for _ in range(8):
            page.keyboard.press("1")
        expect(page.get_by_role("dialog")).to_contain_text("Group 10 of 12")
        page.keyboard.press("r")  # not yet
        regroup = page.get_by_role("button", name="Regroup with the new names")
        expect(regroup).to_have_count(0)
        page.keyboard.press("1")
        expect(regroup).to_be_visible()
        page.keyboard.press("r")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.evaluate("again") is True


def test_keys_do_what_the_dialog_of_a_group_shows(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(GROUPS)
        asked = page.get_by_role("dialog", name="Are any of these none of your classes?")
        expect(asked.get_by_role("button", name="New name …")).to_have_count(0)
        for key in ("/", "2", *sorted(set(ascii_lowercase) - {"s", "x"})):
            page.keyboard.press(key)
        expect(page.get_by_role("dialog")).to_have_count(1)
        expect(asked).to_contain_text("Group 1 of 12")
        assert page.evaluate("given") == []
        page.keyboard.press("S")
        expect(page.get_by_role("dialog", name="What are these?")).to_contain_text("Group 2 of 12")
        page.keyboard.press("/")
        page.keyboard.type("sx1r/")  # a name: letters are typed
        expect(page.get_by_role("textbox", name="Name them")).to_have_value("sx1r/")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("Group 3 of 12")
        assert page.evaluate("given.at(-1)[0].class_name") == "sx1r/"


def test_a_second_answer_for_a_group_replaces_the_first(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        page.evaluate(GROUPS)
        page.get_by_role("dialog").get_by_role("checkbox", name="1.jpg").click()
        page.keyboard.press("x")
        expect(page.get_by_role("dialog")).to_contain_text("Group 2 of 12")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("1")
        assert page.evaluate("given") == [
            [
                {"positions": [0, 2], "said": "none", "how": "group"},
                {"positions": [1], "said": "not_class", "class_name": None, "how": "group"},
            ],
            [
                {"positions": [0, 1, 2], "said": "withdrawn", "how": "group"},
                {"positions": [0, 2], "said": "class", "class_name": "red", "how": "group"},
                {"positions": [1], "said": "not_class", "class_name": "red", "how": "group"},
            ],
        ]
