"""The OpenAPI document against the service: equal by schemathesis, with every problem described."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from core.clip.models.backbone import Backbone
from tests.api.routes import ALIAS, ROUTES, NewService, two_owners
from tests.api.service import URL, Service, form, shots
from tests.api.serving.adapted import publish_model
from tests.core.store import samples

HEALTH = {"/healthz", "/readyz"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def shared(
    new_service: Callable[..., AbstractContextManager[Service]], backbone: Backbone
) -> Iterator[Service]:
    with new_service() as made:
        made.app.state.serving.warm_up()
        publish_model(made.database, made.blobs, backbone)
        samples.new_job(made.database)
        yield made


@pytest.fixture(scope="module")
def document(shared: Service) -> dict[str, Any]:
    response = shared.client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


@pytest.fixture(scope="module")
def api(document: dict[str, Any]) -> Any:
    return schemathesis.openapi.from_dict(document)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


OPERATIONS = [" ".join(route) for route in (*ROUTES, ("GET", "/healthz"), ("GET", "/readyz"))]


# schemathesis.pytest.from_fixture fails with pytest 9, and its ASGI transport starts and stops the
# application per call. The test therefore draws from each operation's strategies and uses its own client.
@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "GET /metrics"])
def test_schemathesis(shared: Service, api: Any, name: str, mode: GenerationMode) -> None:
    method, path = name.split()

    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        response = send(shared, case)
        case.validate_response(response, checks=CHECKS)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # A GET without parameters cannot be invalid.


def send(service: Service, case: schemathesis.Case) -> Any:
    given = case.as_transport_kwargs(base_url=URL)
    given["query"] = given.pop("params", None)
    body = {key: given[key] for key in ("data", "json", "files") if given.get(key) is not None}
    request = requests.Request(given["method"], given["url"], given["headers"], params=given["query"], **body)
    prepared = request.prepare()
    headers = [
        (name, value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in prepared.headers.items()
    ]
    return service.client.request(
        prepared.method or "GET", prepared.url or URL, headers=headers, content=prepared.body
    )


def fits(api: Any, method: str, path: str, response: httpx.Response) -> None:
    """Check status, content type and body against the document."""
    parameters: dict[str, Any] = {
        name: "x" for name in ("job_id", "model_id", "pile_id", "name", "alias") if f"{{{name}}}" in path
    }
    if "{position}" in path:
        parameters["position"] = 0
    api[path][method].Case(path_parameters=parameters).validate_response(response, checks=CHECKS)


@pytest.mark.slow
def test_real_answers_fit_the_document(new_service: NewService, backbone: Backbone, api: Any) -> None:
    """Generated examples rarely reach these answers."""
    with two_owners(new_service, backbone) as world:
        mine, theirs = world.mine, world.theirs
        job, model = (path.format_map(mine) for path in ("/jobs/{job_id}", "/models/{model_id}"))
        report = f"/jobs/{mine['ended']}/report"
        database = world.service.database
        running = samples.claimed(database, samples.new_job(database, owner="team-a")).job_id
        names = {"class_names": ["red fox", "oak"]}
        image = [("images", shots()["images"][0])]
        promoted = {"model": mine["model_id"]}
        for method, path, at, given in (
            ("POST", "/adapt", "/adapt", form(**shots(["one"]))),
            ("POST", "/adapt", "/adapt?dry_run=true", form(**shots())),
            ("POST", "/classify", "/classify", {"data": names, "files": image}),
            ("POST", "/classify", "/classify", {"data": {**names, "model": "mdl_x"}, "files": image}),
            ("POST", "/classify", "/classify", {"data": {"model": mine["name"]}, "files": image}),
            ("GET", "/jobs/{job_id}/images/{position}", f"{job}/images/99", {}),
            ("GET", "/jobs/{job_id}/report", report, {"headers": {"accept": "text/html"}}),
            ("GET", "/jobs/{job_id}/report", f"{job}/report", {}),
            ("GET", "/models", "/models", {"params": {"class_name": "red fox", "nmae": "x"}}),
            ("GET", "/models/{model_id}/export", "/models/mdl_x/export", {}),
            ("POST", "/models", "/models", {"files": [("archive", ("model.zip", b"none"))]}),
            ("PUT", ALIAS, ALIAS.format_map(mine), {"json": promoted}),
            ("PUT", ALIAS, ALIAS.format_map(mine), {"json": promoted}),
            ("PATCH", "/models/{model_id}", model, {"json": {"name": None}}),
            ("GET", "/jobs/{job_id}", f"/jobs/{running}", {}),
            ("DELETE", "/jobs/{job_id}", f"/jobs/{running}", {}),
            ("GET", "/readyz", "/readyz", {}),
            ("GET", "/healthz", "/healthz", {}),
        ):
            response = world.call(mine, method, at, **given)
            assert response.status_code < 500
            fits(api, method, path, response)
        for route in ROUTES:
            fits(api, *route, world.send(theirs, route, mine))
        for route, _, answer in world.answers():
            fits(api, *route, answer)


def test_the_key_is_described(document: dict[str, Any]) -> None:
    schemes = document["components"].get("securitySchemes", {})
    assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer"]
    for method, path, operation in operations(document):
        assert bool(operation["security"]) == (path not in HEALTH), (method, path)


def test_the_document_is_generated_without_warnings(shared: Service) -> None:
    """FastAPI warns about duplicate operation ids."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared.app.openapi_schema = None
        made = shared.app.openapi()
    ids = [operation["operationId"] for _, _, operation in operations(made)]
    assert len(set(ids)) == len(ids) == len(OPERATIONS)


def examples(value: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """List each example of the document with its schema."""
    if isinstance(value, dict):
        if isinstance(value.get("examples"), list):
            yield from ((value, example) for example in value["examples"])
        if "schema" in value and "example" in value:
            yield value["schema"], value["example"]
        for key, item in value.items():
            if key not in {"example", "examples"}:
                yield from examples(item)
    elif isinstance(value, list):
        for item in value:
            yield from examples(item)


def test_every_example_satisfies_its_schema(document: dict[str, Any]) -> None:
    found = list(examples(document))
    assert len(found) >= 10
    for schema, example in found:
        whole = {"allOf": [schema], "components": document["components"]}  # Resolves references.
        Draft202012Validator(whole).validate(example)


def test_every_example_of_a_request_works(fresh: Service, backbone: Backbone) -> None:
    document, client = fresh.app.openapi(), fresh.client
    schemas = document["components"]["schemas"]
    model = publish_model(fresh.database, fresh.blobs, backbone, name="animals")
    client.put("/models/animals/aliases/prod", json={"model": model}).raise_for_status()
    job = fresh.accepted(**shots(each=8))["id"]
    extended = samples.new_model(classes=["red fox", "badger"])
    samples.publish(fresh.database, samples.claimed(fresh.database, job), extended)
    archive = {"archive": ("model.zip", client.get(f"/models/{model}/export").content)}
    files = {"/adapt": form(**shots())["files"], "/models/{model_id}/extend": form(**shots())["files"]}
    files["/models"] = list(archive.items())
    pile = client.post("/piles", json={}).json()["id"]
    photos = form(images=shots()["images"])["files"]
    client.post(f"/piles/{pile}/images", files=photos).raise_for_status()
    sent = []
    for method, path, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            address = path.format(
                job_id=job, model_id=extended.id, name="animals", alias="prod", pile_id=pile
            )
            bodies = [content["example"]] if "example" in content else schema.get("examples", [])
            for body in bodies:
                sent.append((path, client.request(method, address, json=body)))
            if kind == "multipart/form-data":
                for name, field in schema["properties"].items():
                    for value in field.get("examples", []):
                        answer = client.request(method, address, data={name: value}, files=files[path])
                        sent.append((path, answer))
    assert {path for path, _ in sent} == {
        *(
            "/adapt",
            "/adapt/layout",
            "/classify",
            "/jobs/{job_id}/retrain",
            "/models",
            "/piles",
            "/piles/match",
            "/piles/{pile_id}",
            "/piles/{pile_id}/answers",
        ),
        "/models/{model_id}/extend",
    }
    for path, answer in sent:
        assert answer.is_success, f"{path}: {answer.text}"
