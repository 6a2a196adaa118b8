"""POST /classify over HTTP. tests/api/serving compares the numbers with the formulas."""

import base64
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.conftest import MakeService
from tests.api.service import Body, Service, assert_problem
from tests.api.serving.adapted import CLASSES, moved, publish_model

IMAGES = [("a.jpg", crafted.jpeg(1)), ("b.png", crafted.png(2))]
NAMES = ["red fox", "badger", "oak"]
TEXTS = {"Badger": ["a striped digger"]}
SETTINGS = {"max_image_bytes": 500_000}


@pytest.fixture(scope="module")
def model(shared: Service, backbone: Backbone) -> str:
    return publish_model(
        shared.database, shared.blobs, backbone, alpha=0.4, prompts=TEXTS, templates=["a drawing of a {}"]
    )


def by_form(
    service: Service,
    names: Sequence[str] = NAMES,
    images: Sequence[tuple[str, bytes]] = IMAGES,
    **fields: Any,
) -> httpx.Response:
    parts: list[tuple[str, Any]] = [("images", image) for image in images]
    for name, value in {"class_names": names, **fields}.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        parts += [(name, (None, str(one))) for one in values]
    return service.client.post("/classify", files=parts)


def by_json(
    service: Service,
    names: Sequence[Any] = NAMES,
    images: Sequence[tuple[str, bytes]] = IMAGES,
    **fields: Any,
) -> httpx.Response:
    parts = [{"base64": base64.b64encode(data).decode(), "name": name} for name, data in images]
    return service.client.post("/classify", json={"images": parts, "class_names": names, **fields})


def ok(response: httpx.Response) -> Body:
    assert response.status_code == 200, response.text
    body: Body = response.json()
    return body


def answers(response: httpx.Response) -> Body:
    """Return the answer without its timings."""
    body = ok(response)
    del body["timing_ms"]
    return body


# --- the answer ---


def test_the_whole_answer(shared: Service, model: str) -> None:
    body = ok(by_form(shared, model=model))
    assert set(body) == {
        *("model", "reference", "name", "version", "preview", "backbone", "alpha", "class_names"),
        *("calibration", "results", "rule", "timing_ms", "warnings"),
    }
    assert body["rule"] == "untrained"  # without shots
    assert body["calibration"]["calibrated"] is False
    assert (body["reference"], body["name"], body["version"]) == (model, None, None)
    assert (body["model"], body["backbone"], body["alpha"]) == (model, shared.settings.backbone, 0.4)
    kinds = {"red fox": "trained", "badger": "trained", "oak": "new"}
    assert not body["preview"]
    shown = [{"name": name, "kind": kind, "offset": 0} for name, kind in kinds.items()]  # without shots
    assert body["class_names"] == shown
    assert set(body["timing_ms"]) == {"decode", "encode", "total"}
    assert all(value >= 0 for value in body["timing_ms"].values())
    assert body["warnings"] == []
    assert [result["file"] for result in body["results"]] == ["a.jpg", "b.png"]
    for result in body["results"]:
        assert result["error"] is None
        predictions = result["predictions"]
        assert all(set(p) == {"class_name", "kind", "probability", "similarity"} for p in predictions)
        assert {p["class_name"]: p["kind"] for p in predictions} == kinds
        probabilities = [p["probability"] for p in predictions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-6)
        assert all(-1 <= p["similarity"] <= 1 for p in predictions)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "MODEL"},
        {"model": "MODEL", "alpha": 0.25, "top_k": 2},
        {"templates": ["one {}", "two {}"]},
        {"model": "MODEL", "new_class_balance": 0.5},
    ],
)
def test_a_form_and_json_get_the_same(shared: Service, model: str, fields: Body) -> None:
    fields = {name: model if value == "MODEL" else value for name, value in fields.items()}
    assert answers(by_form(shared, **fields)) == answers(by_json(shared, **fields))


def test_stock_is_the_default(shared: Service) -> None:
    body = answers(by_form(shared))
    assert (body["model"], body["backbone"], body["alpha"]) == ("stock", shared.settings.backbone, 0)
    assert {c["kind"] for c in body["class_names"]} == {"new"}
    assert answers(by_form(shared, model="stock")) == body
    assert (body["reference"], body["name"], body["version"]) == ("stock", None, None)
    named = answers(by_form(shared, model=f"stock:{shared.settings.backbone}"))
    assert named["results"] == body["results"]


def test_top_k(shared: Service) -> None:
    everything = answers(by_form(shared))
    for k in (1, 2, 3, 99):
        best = answers(by_form(shared, top_k=k))
        for short, full in zip(best["results"], everything["results"], strict=True):
            assert short["predictions"] == full["predictions"][:k]
    for k in ("0", "-1", "x", "1.5"):
        assert_problem(by_form(shared, top_k=k), 422, "invalid_request", "top_k")


# --- references ---


@pytest.fixture(scope="module")
def shoes(shared: Service, backbone: Backbone) -> list[str]:
    """Publish two versions of `red shoes` and point its `prod` at the first."""
    ids = [
        publish_model(
            shared.database, shared.blobs, backbone, name="red shoes", theta_1=moved(backbone, seed=seed)
        )
        for seed in (5, 6)
    ]
    promoted = shared.client.put("/models/red shoes/aliases/prod", json={"model": ids[0]})
    assert promoted.status_code == 200
    return ids


def test_a_reference(shared: Service, shoes: list[str]) -> None:
    for reference, version in {"red shoes": 2, "red shoes@1": 1, "red shoes@prod": 1}.items():
        body = answers(by_form(shared, model=reference))
        assert (body.pop("reference"), body["model"]) == (reference, shoes[version - 1])
        assert (body["name"], body["version"]) == ("red shoes", version)
        alone = answers(by_form(shared, model=shoes[version - 1]))
        assert alone.pop("reference") == shoes[version - 1]
        assert alone == body


def test_an_unknown_reference(shared: Service, shoes: list[str]) -> None:
    assert_problem(by_json(shared, model="red shoes@3"), 404, "model_not_found", "'red shoes@3'")


# --- class names and prompts ---


def test_own_prompts_replace_the_templates(shared: Service, model: str) -> None:
    names = ["red fox", {"name": "badger", "prompts": ["something else", "and more"]}]
    own = answers(by_json(shared, names, model=model))
    assert own != answers(by_json(shared, ["red fox", "badger"], model=model))
    assert own == answers(by_form(shared, [json.dumps(names)], model=model))
    # The prompts alone decide: the name has no influence.
    renamed = answers(
        by_json(shared, ["red fox", {"name": "badger2", "prompts": names[1]["prompts"]}], model=model)
    )  # type: ignore[index]
    similar = [{p["similarity"] for p in result["predictions"]} for result in own["results"]]
    assert similar == [{p["similarity"] for p in result["predictions"]} for result in renamed["results"]]


def test_one_name(shared: Service) -> None:
    body = ok(by_form(shared, ["oak"]))
    assert [warning["code"] for warning in body["warnings"]] == ["one_class_name"]
    assert "similarity" in body["warnings"][0]["detail"]
    assert body["results"][0]["predictions"][0]["probability"] == 1


def test_repeated_names(shared: Service) -> None:
    body = answers(by_form(shared, ["oak", "elm", "OAK", "oak "]))
    assert [warning["code"] for warning in body["warnings"]] == ["repeated_class_names"]
    assert [c["name"] for c in body["class_names"]] == ["oak", "elm"]
    assert body["results"] == answers(by_form(shared, ["oak", "elm"]))["results"]
    both = ok(by_form(shared, ["oak", "Oak"]))
    assert [w["code"] for w in both["warnings"]] == ["repeated_class_names", "one_class_name"]


@pytest.mark.parametrize("way", [by_form, by_json])
def test_every_bad_name_is_named(shared: Service, way: Callable[..., httpx.Response]) -> None:
    names = ["oak", "", "x" * 5_000, "a\0b", "elm"]
    assert_problem(
        way(shared, names),
        422,
        "invalid_class_names",
        "empty; use",
        errors=[{"pointer": f"/class_names/{i}", "code": "invalid_class_names"} for i in (1, 2, 3)],
    )


def test_a_lone_surrogate_in_a_name(shared: Service) -> None:
    response = by_form(shared, ['["\\ud800", "oak"]'])
    assert response.status_code == 422
    raw = b'{"class_names": ["\\ud800"], "images": [{"base64": ""}]}'
    response = shared.client.post("/classify", content=raw, headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid_request")


def test_the_limit_on_class_names(shared: Service) -> None:
    many = [f"name {i}" for i in range(1_001)]
    for names, code, says in (
        ([], "invalid_class_names", "1 to 1000"),
        (many, "invalid_request", "at most 1000"),
    ):
        assert_problem(by_json(shared, names), 422, code, says, errors=[{"pointer": "/class_names"}])
    assert_problem(by_form(shared, ["[]"]), 422, "invalid_class_names", "1 to 1000")
    assert_problem(by_form(shared, []), 422, "invalid_request", "class_names")
    body = ok(by_json(shared, [f"name {i}" for i in range(1_000)], IMAGES[:1], top_k=3))
    assert len(body["class_names"]) == 1_000
    assert len(body["results"][0]["predictions"]) == 3


# --- images ---


@pytest.mark.parametrize("way", [by_form, by_json])
def test_the_limit_on_images(shared: Service, way: Callable[..., httpx.Response]) -> None:
    for number in (0, 65):
        response = way(shared, NAMES, [("a.jpg", crafted.jpeg())] * number)
        assert_problem(
            response,
            422,
            "invalid_request",
            "at most 64 items" if number and way is by_json else f"{number} images were sent. Send 1 to 64",
            errors=[{"pointer": "/images"}],
        )
    body = ok(way(shared, NAMES, [(f"{i}.jpg", crafted.jpeg(i)) for i in range(64)]))
    assert [result["file"] for result in body["results"]] == [f"{i}.jpg" for i in range(64)]


@pytest.mark.parametrize("way", [by_form, by_json])
def test_a_bad_image_among_good_ones(shared: Service, way: Callable[..., httpx.Response]) -> None:
    cut = crafted.jpeg()[:-200]
    bad = {
        "text.jpg": (crafted.NOT_IMAGES["text"], "not_an_image"),
        "empty.jpg": (b"", "empty_file"),
        "cut.jpg": (cut, "truncated_image"),
        "large.png": (crafted.pixel_bomb(30_000), "too_many_pixels"),
        "heavy.png": (crafted.png() + bytes(500_000), "image_too_large"),
    }
    images = [IMAGES[0], *((name, data) for name, (data, _) in bad.items()), IMAGES[1]]
    body = answers(way(shared, NAMES, images))
    good = answers(way(shared))["results"]
    assert [body["results"][0], body["results"][-1]] == good
    for result, (name, (_, code)) in zip(body["results"][1:-1], bad.items(), strict=True):
        assert (result["file"], result["predictions"]) == (name, [])
        assert set(result["error"]) == {"code", "detail"}
        assert result["error"]["code"] == code
        assert result["error"]["detail"].endswith(".")


def test_only_bad_images(shared: Service) -> None:
    expected = [{"file": "a.jpg", "code": "empty_file"}, {"file": "b.svg", "code": "not_an_image"}]
    response = by_form(shared, NAMES, [("a.jpg", b""), ("b.svg", crafted.SVG)])
    assert_problem(response, 422, "bad_images", "None of the images can be read", errors=expected)


def test_images_without_names(shared: Service) -> None:
    image = {"base64": base64.b64encode(IMAGES[0][1]).decode()}
    body = ok(shared.client.post("/classify", json={"images": [image], "class_names": NAMES}))
    assert body["results"][0]["file"] is None
    bad = {"images": [{"base64": ""}, {"base64": "", "name": "b.jpg"}], "class_names": NAMES}
    problem = assert_problem(shared.client.post("/classify", json=bad), 422, "bad_images")
    assert [error["file"] for error in problem["errors"]] == ["images[0]", "b.jpg"]


def test_base64(shared: Service) -> None:
    text = base64.b64encode(IMAGES[0][1]).decode()
    plain = answers(by_json(shared, NAMES, IMAGES[:1]))["results"][0]["predictions"]
    # `base64 a.jpg` wraps its output like this.
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for given in (f"data:image/jpeg;base64,{text}", f"data:;base64,{text}", wrapped, f" {text}\n"):
        response = shared.client.post("/classify", json={"images": [{"base64": given}], "class_names": NAMES})
        assert ok(response)["results"][0]["predictions"] == plain
    for given in (
        "no base64!",
        "a",
        "ü",
        text[:-3],
        "data:image/jpeg;base64,?",
        "http://127.0.0.1/a.jpg",
    ):
        response = shared.client.post(
            "/classify", json={"images": [{"base64": text}, {"base64": given}], "class_names": NAMES}
        )
        assert_problem(response, 422, "invalid_request", "base64", errors=[{"pointer": "/images/1/base64"}])


# --- refused ---


@pytest.mark.parametrize("name", ["mdl_none", "", "STOCK", "stock2", "../..", "a\0b", "x" * 600])
def test_an_unknown_model(shared: Service, name: str) -> None:
    assert_problem(by_json(shared, model=name), 404, "model_not_found", "GET /models lists")


@pytest.mark.parametrize("name", ["RN50/openai", "local-dir:/etc", "hf-hub:a/b", "x"])
def test_an_unknown_stock_backbone(shared: Service, name: str) -> None:
    assert_problem(by_form(shared, model=f"stock:{name}"), 422, "unknown_backbone", "CLIPCITE_BACKBONES")


@pytest.mark.parametrize("alpha", ["1.01", "-0.01", "x", "NaN", "-Infinity", f"1{'0' * 400}"])
def test_impossible_alphas(shared: Service, alpha: str) -> None:
    assert_problem(by_form(shared, alpha=alpha), 422, "invalid_request", "alpha")
    content = f'{{"class_names": ["a"], "images": [{{"base64": ""}}], "alpha": {alpha}}}'
    response = shared.client.post(
        "/classify", content=content.encode(), headers={"content-type": "application/json"}
    )
    assert_problem(response, 422, "invalid_request")


@pytest.mark.parametrize(("asked", "served"), [(0.30000000001, 0.3), (0.335, 0.34)])
def test_alpha_is_rounded_to_a_hundredth(shared: Service, model: str, asked: float, served: float) -> None:
    assert ok(by_json(shared, model=model, alpha=asked))["alpha"] == served


@pytest.mark.parametrize(
    ("name", "pointers"),
    [
        ({"nam": "a"}, ["/class_names/0/name", "/class_names/0/nam"]),
        ({"name": "a", "prompts": [1]}, ["/class_names/0/prompts/0"]),
        (3, ["/class_names/0"]),
    ],
)
def test_the_wrong_part_of_a_class_name_is_named(shared: Service, name: object, pointers: list[str]) -> None:
    problem = assert_problem(by_json(shared, [name, "b"]), 422, "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == pointers


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"class_names": NAMES}, "/images"),
        ({"images": ["a"], "class_names": NAMES}, "/images/0"),
        ({"images": [{"base64": "", "url": "http://x"}], "class_names": NAMES}, "/images/0/url"),
        ({"images": [], "class_names": "oak"}, "/class_names"),
        ({"images": [], "class_names": NAMES, "model": "x" * 601}, "/model"),
        ([], "/"),
    ],
)
def test_json_of_a_wrong_shape(shared: Service, body: object, pointer: str) -> None:
    problem = assert_problem(shared.client.post("/classify", json=body), 422, "invalid_request")
    assert pointer in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize("content", [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 100_000])
def test_malformed_json(shared: Service, content: bytes) -> None:
    response = shared.client.post(
        "/classify", content=content, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert_problem(response, 422, "invalid_request")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "x"])
def test_a_wrong_content_type(shared: Service, kind: str) -> None:
    response = shared.client.post("/classify", content=b"a=b", headers={"content-type": kind} if kind else {})
    assert_problem(response, 422, "invalid_request", "multipart/form-data.*application/json")


def test_forms_of_a_wrong_shape(shared: Service) -> None:
    assert_problem(by_form(shared, topk=1), 422, "invalid_request", "topk", errors=[{"pointer": "/topk"}])
    assert_problem(by_form(shared, model=["stock", "stock"]), 422, "invalid_request", "model")
    assert_problem(by_form(shared, ["[oak]"]), 422, "invalid_request", "class_names is not valid JSON")
    assert_problem(by_form(shared, ["[1, 2]"]), 422, "invalid_request", "class_names")
    assert_problem(by_form(shared, ["[" * 50_000]), 422, "invalid_request", "class_names is not valid JSON")
    as_text = shared.client.post("/classify", files=[("images", (None, "x")), ("class_names", (None, "oak"))])
    assert_problem(as_text, 422, "invalid_request", "images must be files")
    as_file = shared.client.post(
        "/classify", files=[("images", IMAGES[0]), ("class_names", ("n.txt", b"oak"))]
    )
    assert_problem(as_file, 422, "invalid_request", "class_names must be text")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("image", r"^Unknown field `image`\. Did you mean `images`\?$"),
        ("zzz", r"^Unknown field `zzz`\. The fields are images, class_names, "),
    ],
)
def test_an_unknown_field_of_a_form(shared: Service, sent: str, words: str) -> None:
    response = shared.client.post("/classify", files=[(sent, IMAGES[0]), ("class_names", (None, "oak"))])
    assert_problem(response, 422, "invalid_request", words, errors=[{"pointer": f"/{sent}"}])


def test_addresses_of_images_are_refused_with_the_accepted_forms(shared: Service) -> None:
    body = {"images": ["https://example.com/a.jpg"], "class_names": NAMES}
    response = shared.client.post("/classify", json=body)
    assert_problem(
        response, 422, "invalid_request", "with the file as base64", errors=[{"pointer": "/images/0"}]
    )
    assert "or a file of a multipart form" in response.json()["detail"]


def test_a_comma_in_the_only_name_of_a_form_is_a_warning(shared: Service) -> None:
    def codes(names: Sequence[str]) -> list[str]:
        return [warning["code"] for warning in by_form(shared, names).json()["warnings"]]

    assert codes(["skirt,dress"]) == ["one_class_name", "comma_in_class_name"]
    assert codes(["skirt,dress", "oak"]) == codes(['["skirt,dress", "oak"]']) == []


# --- without class names ---


def without_names(service: Service, **fields: Any) -> httpx.Response:
    return service.client.post("/classify", data=fields, files=[("images", IMAGES[0])])


def test_the_classes_of_the_model_are_the_default(shared: Service, backbone: Backbone, model: str) -> None:
    answer = without_names(shared, model=model).json()
    assert [(each["name"], each["kind"]) for each in answer["class_names"]] == [
        (name, "trained") for name in CLASSES
    ]
    more = [f"name {i}" for i in range(1_001)]  # than a request may send
    model = publish_model(shared.database, shared.blobs, backbone, classes=more)
    assert len(without_names(shared, model=model, top_k=1).json()["class_names"]) == len(more)


def test_the_stock_model_needs_class_names(shared: Service) -> None:
    says = "The stock model has no classes of its own"
    assert_problem(without_names(shared), 422, "invalid_request", says, errors=[{"pointer": "/class_names"}])


# --- weights that are not there ---


def test_missing_weights(shared: Service, model: str, backbone: Backbone) -> None:
    """A model whose weights are missing returns 503; other models and the stock backbone keep working."""
    theta_1 = moved(backbone, seed=7)  # A file that no other model uses.
    broken = publish_model(shared.database, shared.blobs, backbone, theta_1=theta_1)
    (shared.settings.data / "blobs" / "models" / broken / "weights.safetensors").unlink()
    for _ in range(2):
        response = by_form(shared, model=broken)
        assert_problem(response, 503, "model_unavailable", f"{broken} can't be used.*Restore.*train it again")
        assert response.headers["retry-after"] == "30"
    ok(by_form(shared))
    ok(by_form(shared, model=model))
    assert shared.client.get(f"/models/{broken}").status_code == 200
    assert "\nclipcite_warm_unavailable_total 0.0\n" not in shared.client.get("/metrics").text
    assert shared.client.delete(f"/models/{broken}").status_code == 204


def test_a_model_that_takes_long_to_load(
    make_service: MakeService, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    service.app.state.serving.engine.wait_seconds = 0.2
    model = publish_model(service.database, service.blobs, backbone)
    gate = threading.Event()
    get = service.blobs.get

    def slow(key: str) -> bytes:
        assert gate.wait(60)
        return get(key)

    monkeypatch.setattr(service.blobs, "get", slow)
    response = by_form(service, model=model)
    assert_problem(response, 503, "model_loading", "again in a few seconds")
    assert int(response.headers["retry-after"]) > 0
    gate.set()
    for _ in range(50):
        response = by_form(service, model=model)
        if response.status_code == 200:
            break
    assert ok(response)["model"] == model


def test_too_many_prompts(shared: Service) -> None:
    templates = [f"{{}} {i}" for i in range(100)]
    response = by_json(shared, [f"name {i}" for i in range(201)], templates=templates)
    assert_problem(response, 422, "invalid_request", "20,100 prompts")


def test_a_response_has_a_maximum_of_predictions(fresh: Service, backbone: Backbone) -> None:
    names = [f"class {i}" for i in range(2_000)]
    files = [("images", (f"{i}.jpg", crafted.jpeg(i))) for i in range(51)]
    data = {"model": publish_model(fresh.database, fresh.blobs, backbone, classes=names)}
    refused = fresh.client.post("/classify", data=data, files=files)
    problem = assert_problem(refused, 422, "invalid_request", "102,000 predictions.*`top_k` of at most 1,960")
    assert problem["errors"][0]["pointer"] == "/top_k"
    answer = fresh.client.post("/classify", data={**data, "top_k": "3"}, files=files)
    assert answer.status_code == 200, answer.text
