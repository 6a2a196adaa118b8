"""The types of requests and responses: a newer service, limits, results as text, and lazy imports."""

from typing import Any, get_type_hints

import pytest

import clipcite
from clipcite.client.request import APIResponseValidationError, parse
from clipcite.types.classify import CLASSIFICATION_EXAMPLE, Classification, ClassifyOptions, Options
from clipcite.types.jobs import JOB_EXAMPLE, Job

FILES = [str(number) for number in range(25)]


def answer(**changes: Any) -> Classification:
    return parse(Classification, {**CLASSIFICATION_EXAMPLE, **changes})


def test_a_newer_service_is_understood() -> None:
    received = {**JOB_EXAMPLE, "status": "paused", "priority": 3}
    job = parse(Job, received)
    assert (job.status, job.finished) == ("paused", False)
    assert job.raw == received
    assert job.raw["priority"] == 3
    assert job.model_dump(mode="json") == {**JOB_EXAMPLE, "status": "paused"}


def test_an_older_service_may_leave_out_what_can_be_null() -> None:
    assert (
        parse(Job, {key: value for key, value in JOB_EXAMPLE.items() if value is not None}).model_id is None
    )


@pytest.mark.parametrize("received", [[], {"id": "job_1"}, {**JOB_EXAMPLE, "created_at": "yesterday"}])
def test_another_response_is_an_error_of_the_client(received: object) -> None:
    with pytest.raises(APIResponseValidationError, match=r"not a valid Job .*same version of the client"):
        parse(Job, received)


def test_the_client_takes_every_option_of_a_classification() -> None:
    arguments = {"model", "class_names"}
    assert set(get_type_hints(ClassifyOptions)) | arguments == set(Options.model_fields)


def test_a_result_is_a_sequence_of_images() -> None:
    unreadable = {"file": "b.jpg", "predictions": None, "error": {"code": "bad", "detail": "It is damaged."}}
    result = answer(results=[*CLASSIFICATION_EXAMPLE["results"], unreadable])  # type: ignore[misc]
    assert result[0].class_name == "red fox"
    assert [image.file for image in result] == ["a.jpg", "b.jpg"]
    assert result[1].predictions == []
    with pytest.raises(ValueError, match=r"b\.jpg: It is damaged"):
        _ = result[1].class_name
    assert str(result) == "a.jpg: red fox 93.0%, hedgehog 7.0%\nb.jpg: It is damaged."
    assert repr(result) == str(result)
    assert repr(result[:1]) == "[<a.jpg: red fox 93.0%, hedgehog 7.0%>]"


def test_a_long_result_is_a_short_text() -> None:
    each = {"kind": "new", "probability": 0.2, "similarity": 0.3}
    predictions = [{"class_name": str(number), **each} for number in range(5)]
    lines = str(answer(results=[{"file": file, "predictions": predictions} for file in FILES])).splitlines()
    assert lines[0] == "0: 0 20.0%, 1 20.0%, 2 20.0%, and 2 more"
    assert len(lines) == 21
    assert lines[-1] == "and 5 more images"


def test_the_public_names() -> None:
    assert {"Client", "Job", "Model", "Classification"} <= {*clipcite.__all__} <= {*dir(clipcite)}
    assert all(getattr(clipcite, name) for name in clipcite.__all__)
    with pytest.raises(AttributeError, match="Cleint"):
        _ = clipcite.Cleint  # type: ignore[attr-defined]
