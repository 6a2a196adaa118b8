"""Evaluation through the Python client and the command line, on the running service."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from clipcite import Client, Job
from tests.clipcite.client.awaited import awaited_client
from tests.service.running import Service


@pytest.mark.parametrize("client_of", [Client, awaited_client])
def test_a_model_is_evaluated_on_a_folder(
    service: Service,
    learner: Job,
    folder: Path,
    call: Callable[..., Result],
    client_of: Callable[..., Client],
) -> None:
    with client_of(service.url) as client:
        jobs = len(list(client.jobs.list()))
        model = client.models.get(learner.model_id or "")
        answer = model.evaluate(folder)
        assert len(list(client.jobs.list())) == jobs
        kept = model.evaluation()
    assert answer.images == 2  # the others trained the model
    assert [warning.code for warning in answer.warnings if warning.code == "trained_images"]
    assert answer.correct + len(answer.mistakes) == 2
    assert all(Path(mistake.file).is_file() for mistake in answer.mistakes)
    assert kept.model_dump(exclude={"mistakes"}) == answer.model_dump(exclude={"mistakes"})
    # The service knows no folders of this machine.
    assert [folder / each.file for each in kept.mistakes] == [Path(each.file) for each in answer.mistakes]
    said = call("evaluate", learner.model_id, folder / "test").stdout
    assert "of 2 right" in said
    assert " ".join(answer.sentences) in said
    again = call("evaluate", learner.model_id).stdout
    assert again.partition("Misclassified")[0] == said.partition("Misclassified")[0]
    printed = json.loads(call("evaluate", learner.model_id, "--json").stdout)
    assert printed["sentences"] == answer.sentences
