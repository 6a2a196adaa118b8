"""POST /models: an exported model is imported, and a model that does not fit is refused with a reason."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load, save

from api.models import imports
from core.clip.models.backbone import Backbone
from core.clip.weights.support_set import MAX_SUPPORT_SHOTS, SupportSet
from tests.api import crafted
from tests.api.service import MODEL_KEYS, Body, Service, assert_problem
from tests.api.serving.adapted import publish_model

IMAGES = [("images", (f"{i}.jpg", crafted.jpeg(i))) for i in range(3)]
NAMES = ["red fox", "Badger", "oak"]


def exported(service: Service, model: str, **query: object) -> bytes:
    response = service.client.get(f"/models/{model}/export", params=query)
    assert response.status_code == 200, response.text
    return response.content


def bring(service: Service, archive: bytes, **fields: str) -> httpx.Response:
    return service.client.post("/models", files=[("archive", ("model.zip", archive))], data=fields)


def brought(service: Service, archive: bytes, **fields: str) -> Body:
    response = bring(service, archive, **fields)
    assert response.status_code == 201, response.text
    body: Body = response.json()
    assert response.headers["location"] == f"/models/{body['id']}"
    assert set(body) == MODEL_KEYS
    return body


def answers(service: Service, model: str, **more: object) -> list[dict[str, tuple[float, float]]]:
    given = {"class_names": NAMES, "model": model, **more}
    response = service.client.post("/classify", data=given, files=IMAGES)
    assert response.status_code == 200, response.text
    return [
        {p["class_name"]: (p["probability"], p["similarity"]) for p in result["predictions"]}
        for result in response.json()["results"]
    ]


def changed(archive: bytes, change: Callable[[dict[str, bytes]], Any]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        files = {name: old.read(name) for name in old.namelist()}
    change(files)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name, data in files.items():
            new.writestr(name, data)
    return made.getvalue()


MANY_PROMPTS = {str(i): ["x" * 1_000] * 100 for i in range(10)}


def publish(service: Service, backbone: Backbone) -> str:
    features = torch.nn.functional.normalize(torch.randn(3, 4, 32), dim=-1)
    return publish_model(
        service.database,
        service.blobs,
        backbone,
        shots=SupportSet(features, torch.tensor([0, 0, 1, 1])),
        alpha=0.4,
        delta_format="4bit",
        name="forest",
        templates=["a drawing of a {}.", "{}"],
        prompts={"red fox": ["a vixen"]},
    )


@pytest.fixture
def model(fresh: Service, backbone: Backbone) -> str:
    return publish(fresh, backbone)


@pytest.fixture(scope="module")
def archives(shared: Service, backbone: Backbone) -> dict[str, bytes]:
    """Return the archives of a model per format, for the service whose imports are all refused."""
    model = publish(shared, backbone)
    return {name: exported(shared, model, format=name) for name in ("open_clip", "delta")}


def test_a_delta_comes_back_as_it_was(fresh: Service, model: str) -> None:
    body = brought(fresh, exported(fresh, model, format="delta"))
    original = fresh.client.get(f"/models/{model}").json()
    same = MODEL_KEYS - {"id", "job_id", "created_at", "version", "aliases", "bytes", "created_by"}
    assert {key: body[key] for key in same} == {key: original[key] for key in same}
    assert body["job_id"] is None
    assert body["id"] != model
    for alpha in (0.4, 1):
        # Class offsets are equal too.
        assert answers(fresh, body["id"], alpha=alpha) == answers(fresh, model, alpha=alpha)
    assert fresh.client.delete(f"/models/{body['id']}").status_code == 204


def test_an_open_clip_folder_becomes_theta_1(fresh: Service, model: str) -> None:
    body = brought(fresh, exported(fresh, model, alpha=0.4))
    assert (body["alpha"], body["delta_format"], body["metrics"]) == (1.0, "full", None)
    imported = answers(fresh, body["id"], new_class_balance=0)
    original = answers(fresh, model, alpha=0.4, new_class_balance=0)
    for one, other in zip(imported, original, strict=True):
        for name in NAMES:
            assert one[name] == pytest.approx(other[name], abs=1e-5)


def test_the_form_wins_over_the_archive(fresh: Service, model: str, backbone: Backbone) -> None:
    fields = {
        "name": "woods",
        "classes": '["oak"]',
        "alpha": "0.25",
        "delta_format": "4bit",
        "backbone": backbone.name,
    }
    body = brought(fresh, exported(fresh, model), **fields)
    assert (body["name"], body["trained_classes"], body["alpha"]) == ("woods", ["oak"], 0.25)
    assert body["delta_format"] == "4bit"


def test_half_precision_and_a_root_folder(fresh: Service, model: str) -> None:
    """Model hubs publish such archives."""

    def halved(files: dict[str, bytes]) -> None:
        state = load(files["open_clip_model.safetensors"])
        files["open_clip_model.safetensors"] = save({n: t.half() for n, t in state.items()})
        for name in list(files):
            files[f"my model/{name}"] = files.pop(name)

    body = brought(fresh, changed(exported(fresh, model, alpha=1), halved))
    for one, other in zip(answers(fresh, body["id"], alpha=1), answers(fresh, model, alpha=1), strict=True):
        assert one["oak"][1] == pytest.approx(other["oak"][1], abs=0.01)


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        state = load(files["open_clip_model.safetensors"])
        change(state)
        files["open_clip_model.safetensors"] = save(state)

    return apply


def config(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        content = json.loads(files["open_clip_config.json"])
        change(content)
        files["open_clip_config.json"] = json.dumps(content).encode()

    return apply


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("open_clip_model.safetensors"), "pickles"),
        (lambda f: f.update({"open_clip_model.safetensors": b"\x80\x02pickle"}), "not a safetensors"),
        (lambda f: f.update({"open_clip_config.json": b"{"}), "not valid JSON"),
        (lambda f: f.update({"open_clip_config.json": b"[" * 100_000}), "not valid JSON"),
        (lambda f: f.update({"open_clip_config.json": b"{}"}), "image_size"),
        (lambda f: f.update({"clipcite.json": b"{" + b" " * 4_000_000 + b"}"}), "larger than 4,000,000"),
        (config(lambda c: c["model_cfg"].update(quick_gelu=True)), "quick_gelu"),
        (config(lambda c: c["preprocess_cfg"].update(mean=[0, 0, 0])), "preprocess.mean"),
        (config(lambda c: c["model_cfg"]["vision_cfg"].update(image_size="32")), "whole number"),
        (config(lambda c: c["model_cfg"]["vision_cfg"].update(image_size=1_025)), "32 to 1,024"),
        (tensors(lambda t: t.pop("visual.proj")), "visual.proj"),
        (tensors(lambda t: t.update(more=torch.ones(2))), "more"),
        (tensors(lambda t: t.update({"visual.proj": t["visual.proj"].T.contiguous()})), "shape"),
        (tensors(lambda t: t["visual.proj"][0].fill_(float("nan"))), "finite"),
        (tensors(lambda t: t["logit_scale"].add_(0.1)), "logit_scale"),
        (lambda f: f.update({"clipcite.json": b'{"classes": 3}'}), "lists of strings"),
        (lambda f: f.update({"clipcite.json": b'{"name": 5}'}), "wrong type"),
        (lambda f: f.update({"clipcite.json": json.dumps({"prompts": MANY_PROMPTS}).encode()}), "1,000,000"),
    ],
)
def test_folders_that_are_refused(
    shared: Service, archives: dict[str, bytes], change: Callable[[dict[str, bytes]], Any], says: str
) -> None:
    before = shared.blobs.list("")
    assert_problem(bring(shared, changed(archives["open_clip"], change)), 422, "import_refused", says)
    assert shared.blobs.list("") == before
    assert shared.temp_files() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.update({"weights.safetensors": f["weights.safetensors"][:-1] + b"x"}), "SHA-256"),
        (lambda f: f.update({"manifest.json": b"{}"}), "manifest"),
        (
            lambda f: f.update(
                {
                    "manifest.json": f["manifest.json"].replace(
                        b'"backbone_sha256": "', b'"backbone_sha256": "0'
                    )
                }
            ),
            "other weights",
        ),
        (
            lambda f: f.update({"manifest.json": f["manifest.json"] + b" " * 4_000_000}),
            "larger than 4,000,000",
        ),
        (lambda f: f.update({"clipcite.json": b'{"classes": ["one"]}'}), "support set"),
    ],
)
def test_deltas_that_are_refused(
    shared: Service, archives: dict[str, bytes], change: Callable[[dict[str, bytes]], Any], says: str
) -> None:
    archive = changed(archives["delta"], change)
    assert_problem(bring(shared, archive), 422, "import_refused", says)


@pytest.mark.parametrize(
    ("format", "file"), [("open_clip", "open_clip_model.safetensors"), ("delta", "weights.safetensors")]
)
def test_the_number_of_tensors_has_a_limit(
    shared: Service, archives: dict[str, bytes], format: str, file: str
) -> None:
    empty = {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(40_000)}
    header = json.dumps(empty).encode()
    content = len(header).to_bytes(8, "little") + header
    archive = changed(archives[format], lambda files: files.update({file: content}))
    assert_problem(bring(shared, archive), 422, "import_refused", "2,000,000 bytes")


def test_a_support_set_has_a_limit(fresh: Service, backbone: Backbone) -> None:
    for shots, status in ((0, 422), (MAX_SUPPORT_SHOTS, 201), (MAX_SUPPORT_SHOTS + 1, 422)):
        features = torch.nn.functional.normalize(torch.randn(3, shots, 32), dim=-1)
        support = SupportSet(features, torch.zeros(shots, dtype=torch.int64))
        model = publish_model(fresh.database, fresh.blobs, backbone, shots=support, delta_format="4bit")
        assert bring(fresh, exported(fresh, model, format="delta")).status_code == status


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"classes": "red fox"}, "invalid_request", "/classes"),
        ({"classes": '["a", "A"]'}, "invalid_request", "/classes"),
        ({"classes": '[""]'}, "invalid_class_names", "/classes"),
        ({"alpha": "2"}, "invalid_request", "/alpha"),
        ({"delta_format": "2bit"}, "invalid_request", "/delta_format"),
        ({"name": "x" * 201}, "invalid_name", "/name"),
        ({"colour": "red"}, "invalid_request", "/colour"),
    ],
)
def test_fields_that_are_refused(
    shared: Service, archives: dict[str, bytes], fields: dict[str, str], code: str, pointer: str
) -> None:
    response = bring(shared, archives["open_clip"], **fields)
    assert_problem(response, 422, code, errors=[{"pointer": pointer}])


def test_a_backbone_that_is_not_here(shared: Service, archives: dict[str, bytes]) -> None:
    response = bring(shared, archives["open_clip"], backbone="ViT-B-16/openai")
    assert_problem(response, 422, "unknown_backbone", "CLIPCITE_BACKBONES")


def test_hostile_archives(shared: Service, archives: dict[str, bytes]) -> None:
    good = archives["open_clip"]
    outside = changed(good, lambda f: f.update({"../open_clip_config.json": b"{}"}))
    assert_problem(bring(shared, outside), 422, "unsafe_path")
    twice = changed(good, lambda f: f.update({"x/open_clip_config.json": b"{}"}))
    assert_problem(bring(shared, twice), 422, "duplicate_entry")
    assert_problem(bring(shared, b"no archive"), 422, "not_an_archive")
    many = changed(good, lambda f: f.update({f"{i}": b"" for i in range(1_001)}))
    assert_problem(bring(shared, many), 413, "archive_too_large")
    assert shared.temp_files() == []


def test_a_bomb(make_service: Callable[..., Service]) -> None:
    small = make_service(max_request_bytes=1_000_000)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("open_clip_model.safetensors", bytes(2_000_000))
    assert_problem(bring(small, made.getvalue()), 413, "archive_too_large", "1,000,000 bytes")


def test_the_quota(make_service: Callable[..., Service], backbone: Backbone) -> None:
    one = make_service()
    archive = exported(one, publish_model(one.database, one.blobs, backbone), format="delta")
    few = make_service(max_stored_bytes=1_000)
    assert_problem(bring(few, archive), 507, "quota_stored_bytes", "1,000")
    assert few.blobs.list("models") == []


BITS = {"BOOL": 8, "F8_E4M3": 8, "U32": 32, "F32": 32, "F64": 64, "F4": 4}
"""Types of the format: of each size and kind, without 16-bit floats."""


def retyped(tensor: str, kind: str) -> Callable[[dict[str, bytes]], None]:
    """Declare the bytes of a tensor as another type; the last dimension compensates for the element size."""

    def change(files: dict[str, bytes]) -> None:
        file = "weights.safetensors" if "manifest.json" in files else "open_clip_model.safetensors"
        data = files[file]
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        start, end = header[tensor]["data_offsets"]
        rows = math.prod(header[tensor]["shape"][:-1])
        header[tensor]["shape"][-1] = (end - start) * 8 // rows // BITS[kind]
        header[tensor]["dtype"] = kind
        text = json.dumps(header).encode()
        files[file] = len(text).to_bytes(8, "little") + text + data[8 + size :]
        if "manifest.json" in files:
            manifest = json.loads(files["manifest.json"])
            manifest["sha256"] = hashlib.sha256(files[file]).hexdigest()
            files["manifest.json"] = json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("format", "tensor", "good"),
    [("delta", "shot_features", ""), ("delta", "shot_labels", ""), ("open_clip", "visual.proj", "F32 F64")],
)
def test_tensors_of_another_type_are_refused(
    shared: Service, archives: dict[str, bytes], format: str, tensor: str, good: str
) -> None:
    archive = archives[format]
    for kind in BITS.keys() - set(good.split()):
        response = bring(shared, changed(archive, retyped(tensor, kind)), name="other")
        assert_problem(response, 422, "import_refused")


@pytest.mark.parametrize(
    ("format", "file", "reader"),
    [
        ("open_clip", "open_clip_model.safetensors", "load_file"),
        ("delta", "weights.safetensors", "load_weights"),
    ],
)
def test_tensors_that_do_not_fit_are_not_read(
    shared: Service,
    archives: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    file: str,
    reader: str,
) -> None:
    monkeypatch.setattr(f"api.models.archive.{reader}", lambda *given: pytest.fail("read"))
    archive = changed(
        archives[format],
        lambda files: files.update({file: save({"zeros": torch.zeros(1_000_000)})}),
    )
    assert_problem(bring(shared, archive), 422, "import_refused")


def test_classes_are_counted_before_they_are_cleaned(
    shared: Service, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "clean_class_name", lambda name: pytest.fail("cleaned"))
    archive = changed(
        archives["open_clip"],
        lambda files: files.update({"clipcite.json": json.dumps({"classes": ["a"] * 20_000}).encode()}),
    )
    assert_problem(bring(shared, archive), 422, "invalid_request", "more than 10,000 names")
