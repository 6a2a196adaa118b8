"""Corrections and evaluation through the Python client and the command line, on the running service."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from clipcite import Client, Job, UnprocessableEntityError
from tests.api import crafted
from tests.clipcite.client.awaited import awaited_client
from tests.service.running import Service


@pytest.mark.parametrize("client_of", [Client, awaited_client])
def test_corrections_are_stored_listed_extended_and_deleted(
    service: Service, learner: Job, client_of: Callable[..., Client]
) -> None:
    with client_of(service.url) as client:
        model = client.models.get(learner.model_id or "")
        stored = model.add_feedback({"Violet": [crafted.jpeg(seed) for seed in range(3)]})
        assert [each.class_name for each in stored] == ["Violet"] * 3
        assert [each.id for each in model.feedback()] == [each.id for each in reversed(stored)]
        model.delete_feedback(stored[0].id)
        assert len(model.feedback()) == 2
        with pytest.raises(UnprocessableEntityError) as refused:
            model.add_feedback({"Violet": [b"no image"]})
        assert refused.value.code == "no_images"
        extended = model.extend(config={"epochs": 1})
        assert ("Violet", 2) in [(count.name, count.images) for count in extended.classes]
        client.jobs.cancel(extended.id)


def test_a_model_is_evaluated_on_a_folder(
    service: Service, taught: Job, folder: Path, call: Callable[..., Result]
) -> None:
    with Client(service.url) as client:
        jobs = len(list(client.jobs.list()))
        answer = client.models.get(taught.model_id or "").evaluate(folder)
        assert len(list(client.jobs.list())) == jobs
    assert (answer.images, {each.name for each in answer.classes}) == (14, {"red", "green", "blue"})
    assert answer.correct + len(answer.mistakes) == 14
    assert all(Path(mistake.file).is_file() for mistake in answer.mistakes)
    said = call("evaluate", taught.model_id, folder / "test").stdout
    assert "of 6 right" in said
    assert "Pre-trained:" in said
    printed = json.loads(call("evaluate", taught.model_id, folder, "--json").stdout)
    assert printed == answer.model_dump(mode="json")
