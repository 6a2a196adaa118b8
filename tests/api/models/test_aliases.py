"""/models/{name}/aliases: promotion and rollback under concurrent classification."""

import json
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.service import Body, Service, assert_problem, listening
from tests.api.serving.adapted import moved, publish_model
from tests.core.store.races import meanwhile

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "versions.md").read_text(encoding="utf-8")
ALIAS = "/models/shoes/aliases/prod"
IMAGE = crafted.jpeg(1)


def published(service: Service, backbone: Backbone, **given: Any) -> str:
    return publish_model(service.database, service.blobs, backbone, **{"name": "shoes", **given})


def classify(service: Service, model: str) -> Body:
    data = {"class_names": ["red fox", "badger", "oak"], "model": model}
    response = service.client.post("/classify", data=data, files=[("images", ("a.jpg", IMAGE))])
    assert response.status_code == 200, response.text
    body: Body = response.json()
    return body


def test_promote_and_roll_back(either: Service, backbone: Backbone) -> None:
    first, second = published(either, backbone), published(either, backbone)
    promoted = either.client.put(ALIAS, json={"model": "shoes@1"})
    assert promoted.status_code == 200
    body = promoted.json()
    assert datetime.fromisoformat(body["history"][0].pop("at")).tzinfo is not None
    assert body == {
        "reference": "shoes@prod",
        "object": "alias",
        "name": "shoes",
        "alias": "prod",
        "model": first,
        "version": 1,
        "revision": 1,
        "history": [{"revision": 1, "action": "promoted", "model": first, "version": 1}],
    }
    assert classify(either, "shoes@prod")["model"] == first
    again = either.client.put(ALIAS, json={"model": second}).json()
    assert (again["model"], again["version"], again["revision"]) == (second, 2, 2)
    assert classify(either, "shoes@prod")["model"] == second
    back = either.client.post(f"{ALIAS}/rollback").json()
    assert (back["model"], back["revision"]) == (first, 3)
    assert [move["action"] for move in back["history"]] == ["rolled_back", "promoted", "promoted"]
    assert classify(either, "shoes@prod")["model"] == first
    assert either.client.get(ALIAS).json() == back
    assert either.client.get("/models/shoes/aliases").json() == {"data": [back]}
    refused = either.client.post(f"{ALIAS}/rollback")
    assert_problem(refused, 409, "nothing_to_roll_back", "Promote another")
    assert either.client.delete(ALIAS).status_code == 204
    for response in (
        either.client.get(ALIAS),
        either.client.delete(ALIAS),
        either.client.post(f"{ALIAS}/rollback"),
    ):
        assert_problem(response, 404, "alias_not_found", "GET /models/shoes/aliases lists")
    assert either.client.get("/models/shoes/aliases").json() == {"data": []}
    assert either.client.get(f"/models/{first}").status_code == 200


def test_refused(fresh: Service, backbone: Backbone) -> None:
    published(fresh, backbone)
    boots = published(fresh, backbone, name="boots")
    put = fresh.client.put
    assert_problem(put(ALIAS, json={"model": boots}), 409, "alias_of_another_name", "rename the model")
    assert_problem(put(ALIAS, json={"model": "shoes@2"}), 404, "model_not_found")
    assert_problem(put(ALIAS, json={"model": "stock"}), 404, "model_not_found")
    assert_problem(put("/models/hats/aliases/prod", json={"model": "hats"}), 404, "model_not_found")
    for alias in ("1", "latest", "a b", "x" * 65):
        refused = put(f"/models/shoes/aliases/{alias}", json={"model": "shoes"})
        assert_problem(refused, 422, "invalid_alias", "with a letter first")
    for body in ({}, {"model": None}, {"model": "shoes", "force": 1}, {"model": "x" * 601}):
        assert_problem(put(ALIAS, json=body), 422, "invalid_request")
    assert_problem(fresh.client.get("/models/hats/aliases"), 404, "model_not_found")
    assert fresh.client.get("/models/shoes/aliases").json() == {"data": []}


@pytest.fixture
def two(either: Service, backbone: Backbone) -> tuple[Service, dict[str, Body]]:
    """Publish two versions with different predictions. Return the expected prediction per id."""
    ids = [published(either, backbone, theta_1=moved(backbone, seed=seed)) for seed in (1, 2)]
    alone = {model_id: classify(either, model_id) for model_id in ids}
    first, second = (alone[model_id]["results"] for model_id in ids)
    assert first != second
    return either, alone


def test_no_answer_is_mixed_while_an_alias_moves(two: tuple[Service, dict[str, Body]]) -> None:
    """Each response names its version, however fast the alias moves."""
    service, alone = two
    first, second = alone
    service.client.put(ALIAS, json={"model": first})
    answers: list[Body] = []
    seen: set[str] = set()
    with meanwhile(*[lambda: answers.append(classify(service, "shoes@prod"))] * 4):
        for _ in range(200):
            assert service.client.put(ALIAS, json={"model": second}).status_code == 200
            assert service.client.post(f"{ALIAS}/rollback").status_code == 200
            seen = {answer["model"] for answer in list(answers)}
            if len(answers) >= 60 and seen == {first, second}:
                break
    assert seen == {first, second}
    for answer in answers:
        expected = alone[answer["model"]]
        assert answer["reference"] == "shoes@prod"
        assert (answer["name"], answer["version"]) == ("shoes", expected["version"])
        # Scores may differ by rounding between batches.
        assert similarities(answer) == pytest.approx(similarities(expected), abs=1e-5)


def similarities(answer: Body) -> dict[str, float]:
    (result,) = answer["results"]
    return {p["class_name"]: p["similarity"] for p in result["predictions"]}


def test_the_commands_of_the_page_work_as_pasted(fresh: Service, backbone: Backbone, tmp_path: Path) -> None:
    first, second = published(fresh, backbone), published(fresh, backbone, classes=["red fox", "badger"])
    found = re.search(r"<!-- session -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    assert found
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    with listening(fresh.app) as port:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", found[1].replace("curl -s", "curl -s --fail-with-body")],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "API": f"http://127.0.0.1:{port}", "AUTH": "Authorization: none"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    promoted, answer, compared, again, back, listed, filtered, renamed = (
        json.loads(text) for text in re.split(r"(?<=})(?={)", done.stdout)
    )
    assert [alias["model"] for alias in (promoted, again, back)] == [first, second, first]
    assert (answer["model"], answer["version"]) == (first, 1)
    assert (compared["model"], compared["version"]) == (second, 2)
    assert listed == {"data": [back]}
    assert [model["id"] for model in filtered["data"]] == [second]
    assert (renamed["name"], renamed["version"]) == ("boots", 1)
    left = fresh.client.get("/models").json()["data"]
    assert [(model["name"], model["version"]) for model in left] == [("boots", 1)]
