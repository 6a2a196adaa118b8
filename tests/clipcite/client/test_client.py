"""The Python client on the running service."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import numpy as np
import pytest
from PIL import Image

from clipcite import (
    APIConnectionError,
    AsyncClient,
    Client,
    Dataset,
    InvalidAddress,
    Job,
    JobFailed,
    NotFoundError,
    Retry,
    UnprocessableEntityError,
    WaitTimeout,
)
from clipcite.datasets.dataset import Labelled
from clipcite.datasets.image import ImageFile
from clipcite.errors import error_of
from tests.clipcite.client.awaited import awaited_client
from tests.clipcite.painted import paint
from tests.faulty import Faults, faulty
from tests.service.running import PATIENCE, Hold, Service, serve, wait_for

QUICK = Retry(first_seconds=0.01)
LONG = {"epochs": 800, "batch_size": 4}
both = pytest.mark.parametrize("connect", [Client, awaited_client])


def test_adapt_wait_classify(service: Service, folder: Path) -> None:
    """A folder is uploaded, progress arrives live, results are dataclasses, and a new class is predicted."""
    seen: list[Job] = []
    sent: list[tuple[int, int | None]] = []
    with Client(service.url) as client:
        job = client.adapt(
            folder,
            name="colours",
            config={"epochs": 40},
            on_upload=lambda done, total: sent.append((done, total)),
        )
        assert job.name == "colours"
        assert [(c.name, c.images, c.test_images) for c in job.classes][:2] == [
            ("green", 4, 2),
            ("red", 4, 2),
        ]
        done = job.wait(on_change=seen.append, timeout=600)
        assert sent[-1][0] == sent[-1][1]  # The length was announced, and is correct.
        assert done.status == "succeeded"
        losses = [one.progress.loss for one in seen if one.progress and one.progress.loss]
        assert losses
        assert losses[-1]["total"] > 0
        assert done.metrics.measured_on.source == "test"
        assert (done.model_id, done.metrics) == (job.model_id, job.metrics)
        assert done.metrics.all_classes is not None
        assert done.metrics.all_classes.all is not None
        assert [event.type for event in client.jobs.follow(done.id)][-1] == "succeeded"
        assert client.jobs.events(done.id)[0].type == "queued"

        model = client.models.get(done.model_id)
        assert sorted(model.trained_classes) == ["green", "red"]
        one = client.classify(folder / "test/red/0.png", model=model.id)
        assert [image.class_name for image in one] == ["red"]
        assert str(one).startswith(f"{folder}/test/red/0.png: red ")
        assert model.id in [one.id for one in client.models.list(page_size=1)]
        answer = client.classify(
            [
                folder / "test/red/0.png",
                np.full((40, 40, 3), 200, np.uint8),
                Image.new("RGB", (9, 9)),
                b"no image",
            ],
            {"red": None, "sky": ["a blue surface"]},
            model=model.id,
            alpha=0.3,
            top_k=1,
        )
        assert {one.name: one.kind for one in answer.class_names} == {"red": "trained", "sky": "new"}
        assert answer.alpha == 0.3
        assert [len(one.predictions) for one in answer.results] == [1, 1, 1, 0]
        files = [str(folder / "test/red/0.png"), "image-2.png", "image-3.png", "image-4"]
        assert [one.file for one in answer.results] == files
        assert answer.results[3].error is not None
        assert repr(answer[0]) == f"<{answer[0]}>"
        with pytest.raises(ValueError, match="image-4: "):
            _ = answer[3].best
        client.models.delete(model.id)
        with pytest.raises(NotFoundError, match=model.id):
            client.models.get(model.id)


def test_images_by_class_under_any_name(service: Service, tmp_path: Path) -> None:
    """Class names that no folder can have travel as fields; a wrong file suffix has no effect."""
    red, green = (paint(tmp_path, name, 2) for name in ("red", "green"))
    with Client(service.url) as client:
        for names in (("red/ish", ".green"), ("red ✓", "green")):
            job = client.adapt(
                {names[0]: red, names[1]: [green[0], green[1].read_bytes()]}, config={"epochs": 1}
            )
            assert sorted(one.name for one in job.classes) == sorted(names)
            assert [one.images for one in job.classes] == [2, 2]
            job.cancel()


def test_errors_use_the_callers_file_names(service: Service, folder: Path) -> None:
    bad = folder / "train" / "red" / "broken.jpg"
    bad.write_bytes(b"\xff\xd8\xff but then nothing")
    with Client(service.url) as client:
        with pytest.raises(UnprocessableEntityError) as refused:
            client.adapt(folder)
        error = refused.value
        assert (error.status, error.code) == (422, "bad_images")
        assert [item.file for item in error.errors] == [str(bad)]
        assert error.request_id
        assert str(bad) in str(error)
        with pytest.raises(UnprocessableEntityError) as refused:
            client.classify([bad], ["red", "green"])
        assert [item.file for item in refused.value.errors] == [str(bad)]
        job = client.adapt(folder, on_bad_image="skip", config={"epochs": 1})
        assert any("broken.jpg" in one.detail for one in job.warnings)
        job.cancel()
        with pytest.raises(UnprocessableEntityError, match="epochs") as refused:
            client.adapt(folder, config={"epochs": -1}, on_bad_image="skip")
        assert [item.pointer for item in refused.value.errors] == ["/config/epochs"]


@both
def test_jobs_are_listed_cancelled_and_deleted(connect: Any, service: Service, folder: Path) -> None:
    with connect(service.url) as client:
        made = [client.adapt(folder, config=LONG).id for _ in range(3)]
        assert [job.id for job in client.jobs.list(page_size=1)][:3] == made[::-1]
        with pytest.raises(WaitTimeout) as timed_out:
            client.jobs.wait(made[0], timeout=0.5)
        assert timed_out.value.job.id == made[0]
        for job_id in made:
            client.jobs.cancel(job_id)
            assert client.jobs.wait(job_id, timeout=PATIENCE).status == "cancelled"
        with pytest.raises(JobFailed, match=f"{made[0]} was cancelled"):
            client.jobs.get(made[0]).wait()
        assert {job.status for job in client.jobs.list("cancelled")} == {"cancelled"}
        client.jobs.delete(made[2])
        with pytest.raises(NotFoundError):
            client.jobs.get(made[2])


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Hold:
    return Hold(tmp_path_factory.mktemp("hold") / "step")


@pytest.fixture(scope="module")
def own_service(
    environment: dict[str, str], hold: Hold, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run a service with an empty queue whose trainings can be held."""
    lasting = {"CLIPCITE_LEASE_SECONDS": "3600"}  # A starved worker keeps its job.
    with serve(tmp_path_factory.mktemp("data"), {**environment, **hold.environment, **lasting}) as service:
        yield service


@pytest.mark.slow
@both
def test_waiting_outlives_a_restart_of_the_api(
    connect: Any, own_service: Service, hold: Hold, folder: Path
) -> None:
    """The client receives progress made after the restart, and then the end."""
    hold.at(1)
    with connect(own_service.url) as client:
        job = client.adapt(folder, config={"epochs": 4, "batch_size": 4})
        seen: list[Job] = []
        done: list[Job] = []
        waiting = threading.Thread(
            target=lambda: done.append(job.wait(on_change=seen.append, timeout=PATIENCE))
        )
        waiting.start()
        wait_for(lambda: 1 in _steps(seen))
        api = own_service.child("api")
        api.kill()
        wait_for(lambda: not api.is_running())
        hold.at(2)
        wait_for(lambda: 2 in _steps(seen))
        assert seen[-1].status == "running"
        hold.release()
        waiting.join(PATIENCE)
        assert done[0].status == "succeeded"
        assert client.jobs.events(job.id)[-1].type == "succeeded"


def _steps(seen: list[Job]) -> set[int]:
    return {one.progress.step for one in seen if one.progress}


@pytest.fixture
def flaky(service: Service) -> Iterator[Faults]:
    with faulty(service.url) as flaky:
        yield flaky


@both
def test_retries_make_no_second_job(connect: Any, flaky: Faults, folder: Path) -> None:
    """After a 503 and a lost answer, the same key returns the same job."""
    with connect(flaky.url, retry=QUICK) as client:
        before = len(list(client.jobs.list()))
        flaky.seen.clear()
        flaky.expect("", "503 0", "429 0", "lost", "502")
        job = client.adapt(folder, config=LONG)
        sent = [one for one in flaky.seen if one.method == "POST"]
        assert len(sent) == 5
        assert len({one.headers["idempotency-key"] for one in sent}) == 1
        # Each attempt sends the whole body, with a boundary of its own.
        assert len({len(one.body) for one in sent}) == 1
        assert len(list(client.jobs.list())) == before + 1
        job.cancel()
        flaky.expect("", "lost")
        client.jobs.wait(job.id, timeout=PATIENCE)
        flaky.expect("", "lost")
        # The first request deleted the job; the retry gets 404, which is no error.
        client.jobs.delete(job.id)


@both
def test_permanent_errors_are_not_retried(connect: Any, flaky: Faults) -> None:
    with connect(flaky.url, retry=QUICK) as client:
        for fault, says in (("503 3600", "Status 503"), ("html", "Status 418")):
            flaky.seen.clear()
            flaky.expect("", fault)
            with pytest.raises(Exception, match=says):
                client.jobs.get("job_x")
            assert len(flaky.seen) == 1
        flaky.seen.clear()
        with pytest.raises(NotFoundError):
            client.jobs.get("job_x")
        assert len(flaky.seen) == 1


@pytest.mark.slow
@both
def test_waiting_for_the_model_only(connect: Any, own_service: Service, hold: Hold, folder: Path) -> None:
    hold.at(2)
    with connect(own_service.url) as client:
        job = client.adapt(folder, config={"epochs": 4})
        with pytest.raises(WaitTimeout):
            client.jobs.wait(job.id, until="model", timeout=0.5)
        hold.release()
        job = job.wait(until="model", timeout=PATIENCE)
        assert job.model_id is not None
        published = [event for event in client.jobs.events(job.id) if event.type == "model_published"]
        assert published[0].data["model_id"] == job.model_id
        assert job.wait(timeout=PATIENCE).status == "succeeded"
        cancelled = client.adapt(folder, config={"epochs": 4})
        cancelled.cancel()
        with pytest.raises(JobFailed):
            cancelled.wait(until="model", timeout=PATIENCE)


def test_images_are_not_read_on_the_event_loop(service: Service, tmp_path: Path) -> None:
    readers: set[int] = set()

    def watched(path: Path) -> ImageFile:
        def open_file() -> BinaryIO:
            readers.add(threading.get_ident())
            return path.open("rb")

        return ImageFile(path.name, open_file)

    images = [
        Labelled(watched(path), colour) for colour in ("red", "green") for path in paint(tmp_path, colour, 2)
    ]

    async def session() -> None:
        async with AsyncClient(service.url) as client:
            assert (await client.preflight(Dataset("images", images))).acceptable

    anyio.run(session)
    assert readers
    assert threading.get_ident() not in readers


def test_an_unreachable_service() -> None:
    with (
        Client("http://127.0.0.1:9", retry=Retry(attempts=2, first_seconds=0.01)) as client,
        pytest.raises(
            APIConnectionError, match=r"Can't reach clipcite at http://127.0.0.1:9\. .*clipcite serve"
        ),
    ):
        client.ready()
    for wrong in ("localhost:8000", "ftp://x", "http://"):
        with pytest.raises(InvalidAddress, match="is not a valid address"):
            Client(wrong)


@pytest.mark.parametrize(
    ("detail", "commands", "python"),
    [
        (
            "Promote another model first (PUT), or delete it with ?force=true.",
            "Promote another model first (`clipcite models promote`), or delete it with `--force`.",
            "Promote another model first (`client.aliases.promote()`), or delete it with `force=True`.",
        ),
        (
            "Delete the alias (DELETE).",
            "Delete the alias (`clipcite models unalias`).",
            "Delete the alias (`client.aliases.delete()`).",
        ),
        (
            "Rename it (PATCH /models/{id}).",
            "Rename it (`clipcite models rename MODEL NAME`).",
            "Rename it (`client.models.rename('MODEL', name)`).",
        ),
        (
            'Promote it: PATCH /models/mdl_1 with {"promoted": true}.',
            "Promote it: `clipcite models use mdl_1`.",
            "Promote it: `client.models.promote('mdl_1')`.",
        ),
        (
            "Give a delta (GET /models/{id}/export?format=delta).",
            "Give a delta (`clipcite export MODEL -o FILE`).",
            "Give a delta (`client.models.export('MODEL', path)`).",
        ),
        *[("None can be read. See `errors` for the reasons.", *["None can be read."] * 2)],
    ],
)
def test_advice_names_commands_and_calls(detail: str, commands: str, python: str) -> None:
    error = error_of(409, {}, {"detail": detail})
    assert (error.text("commands"), str(error)) == (commands, python)
