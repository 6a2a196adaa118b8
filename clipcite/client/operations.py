"""What the clients do, written once: see `steps`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from clipcite.client import job_requests, model_requests
from clipcite.client.errors import APIConnectionError, InvalidImages, UnprocessableEntityError, WaitTimeout
from clipcite.client.failure import failure_of
from clipcite.client.follow import PROGRESS, Follower
from clipcite.client.model_requests import Names
from clipcite.client.parse import parse
from clipcite.client.report_types import Preflight
from clipcite.client.request import Answer, Call, Page
from clipcite.client.retry import AGAIN, NOT_DONE, Retry
from clipcite.client.steps import Give, Send, Sleep, Steps
from clipcite.client.types import Classification, ImageResult, Job, Notice, Progress
from clipcite.client.upload import Upload
from clipcite.datasets.image import Picture

T = TypeVar("T")
AT_ONCE = 32
"""Pictures in one request to /classify; the service takes 64 unless set otherwise."""
NO_PICTURE = "bad_pictures"
LOOK_SECONDS = 0.3
"""After the last event the job is read anew."""


def send(call: Call[T], retry: Retry, until: float | None = None) -> Steps[T]:
    """Until it is answered, as `retry` says; no pause goes beyond `until`, on the monotonic clock.

    Raises:
        APIStatusError, APIConnectionError, UnexpectedAnswer.
    """
    attempt = 0
    lost = False
    while True:
        attempt += 1
        try:
            answer: Answer = yield Send(call.request)
        except APIConnectionError:
            lost = True
            pause = retry.pause(attempt) if call.twice_is_harmless else None
            if pause is None or _too_late(pause, until):
                raise
        else:
            if 200 <= answer.status < 300 or (answer.status == 404 and lost and call.gone_is_done):
                return call.read(answer)
            again = AGAIN if call.twice_is_harmless else NOT_DONE
            pause = retry.pause(attempt, answer.headers) if answer.status in again else None
            if pause is None or _too_late(pause, until):
                raise failure_of(answer)
        yield Sleep(pause)


def send_upload(upload: Upload, call: Call[T], retry: Retry) -> Steps[T]:
    """Send labelled pictures. Errors name the files as they are called here."""
    try:
        return (yield from send(call, retry))
    except UnprocessableEntityError as error:
        items = [replace(item, file=upload.local_name(item.file)) for item in error.errors]
        raise UnprocessableEntityError(replace(error.problem, errors=items), error.headers) from None


def send_look(upload: Upload, call: Call[Preflight], retry: Retry) -> Steps[Preflight]:
    """As `send_upload`, and what was found names the files so, too."""
    found = yield from send_upload(upload, call, retry)
    findings = [
        replace(one, file=upload.local_name(one.file) or one.file, other=upload.local_name(one.other))
        for one in found.findings
    ]
    return replace(found, findings=findings)


def pages(page: Callable[[str | None], Call[Page[T]]], retry: Retry) -> Steps[None]:
    """Gives every item of a list, page by page."""
    cursor: str | None = None
    while True:
        got = yield from send(page(cursor), retry)
        for item in got.data:
            yield Give(item)
        cursor = got.next_cursor
        if cursor is None:
            return


def follow(job_id: str, after: int, retry: Retry) -> Steps[None]:
    """Gives every event of the job until it has ended."""
    follower = Follower(job_id, after, retry)
    while (events := (yield from follower.next())) is not None:
        for event in events:
            yield Give(event)


def wait(
    job_id: str, on_change: Callable[[Job], None] | None, timeout: float | None, retry: Retry
) -> Steps[Job]:
    """The job when it has ended; `on_change` hears of it whenever something changes.

    Raises:
        WaitTimeout: `timeout` seconds are over.
    """
    until = None if timeout is None else time.monotonic() + timeout
    follower = Follower(job_id, 0, retry, until)
    job = yield from send(job_requests.get_job(job_id), retry, until)
    while True:
        if on_change is not None:
            on_change(job)
        if job.ended:
            return job
        if _too_late(0, until):
            raise WaitTimeout(job)
        events = yield from follower.next()
        if events and all(event.type == PROGRESS for event in events):
            job = replace(
                job, status="running", queue_position=None, progress=parse(Progress, events[-1].data)
            )
        else:  # what the others mean, and how the queue moved, the job itself says
            if events is None:
                yield Sleep(LOOK_SECONDS)
            job = yield from send(job_requests.get_job(job_id), retry.patient, until)


def classify(
    pictures: Sequence[Picture], class_names: Names, retry: Retry, options: Mapping[str, Any]
) -> Steps[Classification]:
    """In several requests if there are many."""
    if not pictures:
        raise InvalidImages("There is no picture to classify.")
    answers: list[Classification] = []
    refused: dict[int, UnprocessableEntityError] = {}
    for start in range(0, len(pictures), AT_ONCE):
        call = model_requests.classify(pictures[start : start + AT_ONCE], class_names, **options)
        try:
            answers.append((yield from send(call, retry)))
        except UnprocessableEntityError as error:
            if error.code != NO_PICTURE:
                raise
            refused[start] = error
    if not answers:
        raise refused[0]
    return _together(answers, refused)


def _together(
    answers: Sequence[Classification], refused: Mapping[int, UnprocessableEntityError]
) -> Classification:
    """One answer; pictures of requests that had no readable one get their errors."""
    if len(answers) == 1 and not refused:
        return answers[0]
    rest = iter(answers)
    results: list[ImageResult] = []
    raw: list[Any] = []
    for number in range(len(answers) + len(refused)):
        error = refused.get(number * AT_ONCE)
        if error is None:
            answer = next(rest)
            results += answer.results
            raw += answer.raw["results"]
        else:
            for item in error.errors:
                notice = Notice(item.code or error.code, item.detail)
                results.append(ImageResult(item.file, error=notice))
                raw.append({"file": item.file, "predictions": None, "error": asdict(notice)})
    times = {name: sum(one.timing_ms[name] for one in answers) for name in answers[0].timing_ms}
    together = {**answers[0].raw, "results": raw, "timing_ms": times}
    return replace(answers[0], results=results, timing_ms=times, raw=together)


def _too_late(seconds: float, until: float | None) -> bool:
    return until is not None and time.monotonic() + seconds >= until
