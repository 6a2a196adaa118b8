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


SORTING = """
  const { sorting, Sorting } = await import("/page/lib/sorting/sorting.js");
  const { NONE } = await import("/page/lib/sorting/groups.js");
  const { learned } = await import("/page/lib/sorting/corrections.js");
  const added = (sorting, number) => {
    sorting.add(Array.from({ length: number }, (_, i) => (
      { file: new File([`photo ${i}`], `${i}.jpg`), name: `${i}.jpg`, path: [`${i}.jpg`] })));
    return sorting.images;
  };
"""

LEARNED = f"""async () => {{{SORTING}
  const sorts = new Sorting();
  sorts.model = "mdl_1";
  const [first, second] = added(sorts, 2);
  sorts.label([[first, "fox"], [second, "owl"]]);
  first.saved = {{ model: "mdl_1", id: null, class_name: "fox", learned: true }};
  learned(sorts, {{ before: {{ id: "mdl_1" }}, labels: [[second, "owl"]] }}, "mdl_2");
  sorts.model = "mdl_2";
  return [sorts.unsaved.length, sorts.lessons.length];
}}"""


def test_labels_of_earlier_rounds_stay_learned(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        assert page.evaluate(LEARNED) == [0, 0]


SPELLED = f"""async () => {{{SORTING}
  const sorts = new Sorting();
  const images = added(sorts, 3);
  sorts.label([[images[0], "Fox"], [images[1], "fox"]]);
  sorts.useModel("mdl_1", ["FOX"]);
  return [sorts.names.length, images.map(({{ label }}) => label)];
}}"""


def test_upper_and_lower_case_are_one_class(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        assert page.evaluate(SPELLED) == [1, ["FOX", "FOX", None]]


RELEASED = f"""async () => {{{SORTING}
  const sorts = new Sorting();
  const [image] = added(sorts, 1);
  sorts.label([[image, "fox"]], 20);
  sorts.label([[image, "owl"]]);
  sorts.release();
  sorts.undo();
  return [image.label, image.held];
}}"""


def test_an_undone_label_of_a_released_check_still_teaches(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        assert page.evaluate(RELEASED) == ["fox", 0]


FULL = f"""async () => {{{SORTING}
  Storage.prototype.setItem = () => {{ throw new DOMException("", "QuotaExceededError"); }};
  const sorts = new Sorting();
  const images = added(sorts, 2);
  const noted = () => new Promise((done) => setTimeout(done, 300));
  sorts.skip([images[0]]);
  await noted();
  sorts.label([[images[1], "fox"]]);
  await noted();
  return sorts.isForgetful;
}}"""


def test_a_full_storage_stays_said(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        assert page.evaluate(FULL) is True


PILE = f"""async () => {{{SORTING}
  added(sorting, 1);
  sorting.label([[sorting.images[0], NONE]]);
  const pile = Array.from({{ length: 3010 }}, () => ({{ file: new File(["photo"], "a.jpg"), name: "" }}));
  window.taken = sorting.takePile(pile).then(({{ length }}) => [length, sorting.images.length]);
}}"""


def test_what_a_pile_loses_is_asked_first(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        page.evaluate(PILE)
        for name, answer in (
            ("1 label isn't saved.", "Remove them"),
            ("The other 10 stay here.", "Take 3,000 images"),
        ):
            page.get_by_role("dialog", name=name).get_by_role("button", name=answer).click()
        assert page.evaluate("taken") == [3000, 3000]
