"""Execution of a training job, from claim to publication and evaluation."""

import atexit
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from sqlalchemy.orm import Session

from core import tracing
from core.clip.errors import CorruptWeights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, file_sha256, read_manifest
from core.errors import ClipCiteError
from core.log import about
from core.scratch import FULL, MIN_FREE_BYTES, free_bytes, scratch_folder
from core.settings import Settings
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.db.tables import FINAL, PREPARING, PUBLISHING, QUEUED, SUCCEEDED, Model
from core.store.errors import DatabaseUnavailable, ServerUnavailable, StorageFull, StorageUnavailable
from core.store.jobs import jobs, leases
from core.store.jobs.checkpoints import RESUMED, folder_of
from core.store.jobs.leases import Claim
from core.store.registry import models
from core.store.registry.models import NewModel
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs
from worker.checkpoints import CheckpointUploader
from worker.lease import Lease
from worker.metrics import StageClock, WorkerMetrics
from worker.progress import JobProgress
from worker.trainer.pool import TrainerPool
from worker.trainer.protocol import CHECKPOINTS, REPORT, TASK, Task
from worker.trainer.supervisor import Stopped, TrainerFailed, run_trainer
from worker.weight_upload import store_weights

logger = logging.getLogger(__name__)
ROOM_POLL_SECONDS = 2.0
WAITS = {StorageFull.code, StorageUnavailable.code}
"""Errors after which a job waits for the storage. Its attempt does not count."""
LOST, REQUEUED = "lost", "requeued"
"""Outcomes of an attempt that does not end its job."""
T = TypeVar("T")


class JobRunner:
    """A runner of jobs. The database row is authoritative; the message with the id is only a wake-up."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        *,
        name: str,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self.metrics = metrics or WorkerMetrics(CollectorRegistry())
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.name = name
        self.draining = threading.Event()
        """Set when this worker must stop. Its job is requeued, and the attempt does not count."""
        self.standby = TrainerPool() if settings.warm_trainer else None
        if self.standby is not None:
            atexit.register(self.standby.close)
            self.standby.prepare()

    def run(self, job_id: str) -> None:
        """Claim the job and run it. Do nothing if it can't be claimed."""
        if self.draining.is_set():
            return
        if free_bytes(self.settings.scratch()) < MIN_FREE_BYTES:
            self._wait_for_room(job_id)
            return
        with self.database.write() as session:
            claim = leases.claim(
                session,
                job_id,
                worker=self.name,
                lease_seconds=self.settings.lease_seconds,
                max_running=self.settings.max_running_jobs,
            )
        if claim is None:
            return
        with about(**({} if claim.request_id is None else {"request_id": claim.request_id})):
            logger.info("%s: attempt %d started", job_id, claim.attempt)
            tracing.record("wait in the queue", claim.traceparent, *claim.waiting)
            with tracing.span("attempt", claim.traceparent, job_id=job_id, attempt=claim.attempt):
                self._run(claim)

    def _run(self, claim: Claim) -> None:
        """Run one attempt to its end."""
        job_id, seconds = claim.job_id, self.settings.lease_seconds
        beat = self.settings.heartbeat_seconds
        progress = JobProgress(published=claim.model_id is not None)
        with (
            self.metrics.attempt() as clock,
            Lease(self.database, claim, progress.fields, lease_seconds=seconds, beat_seconds=beat) as lease,
        ):
            code = ""
            try:
                with (
                    scratch_folder(self.settings.scratch()) as folder,
                    self._checkpoint_uploader(claim, folder) as uploader,
                ):
                    held = self._train_and_evaluate(claim, lease, folder, clock, uploader, progress)
                outcome = SUCCEEDED if held else LOST
            except Stopped:
                outcome = self._record_stop(claim, lease)
            except TrainerFailed as error:
                logger.warning("%s: failed, %s: %s", job_id, error.code, error)
                code, detail = error.code, error.detail
                outcome = (
                    self._retry_transaction(
                        lambda s: leases.finish_failed(s, claim, code=code, detail=detail)
                    )
                    or LOST
                )
            except Exception as error:
                code, detail = _reason(error)
                if code == "internal_error":
                    logger.exception("%s: attempt %d failed by an internal error", job_id, claim.attempt)
                else:
                    logger.warning("%s: attempt %d failed, %s: %s", job_id, claim.attempt, code, error)
                # A full or absent storage is not the job's fault: the job waits without spending attempts.
                waits = code in WAITS
                outcome = self._requeue(
                    claim,
                    code,
                    detail,
                    spend_attempt=not waits,
                    delay_seconds=self.settings.redispatch_seconds if waits else 0,
                )
            self.metrics.record_end(outcome, code)
            if outcome in FINAL:
                self._remove_checkpoints(job_id)
        if code in WAITS:
            # Meanwhile, jobs go to other workers; the next one would most likely fail here too.
            self.draining.wait(self.settings.redispatch_seconds)

    def can_run(self) -> bool:
        """Return whether this worker takes jobs: it does not stop, and its disk has room."""
        return not self.draining.is_set() and free_bytes(self.settings.scratch()) >= MIN_FREE_BYTES

    def _wait_for_room(self, job_id: str) -> None:
        """Hand the message back, and take no other while the disk is full."""
        logger.error(
            "Less than %d bytes are free at %s. Free disk space there. Until then, this worker runs no job, "
            "and %s goes to another worker.",
            MIN_FREE_BYTES,
            self.settings.scratch(),
            job_id,
        )
        try:
            with self.database.write() as session:
                leases.hand_back(session, job_id)
        except DatabaseUnavailable as error:
            logger.warning(
                "%s: the wake-up is repeated in %g s: %s", job_id, self.settings.redispatch_seconds, error
            )
        while free_bytes(self.settings.scratch()) < MIN_FREE_BYTES and not self.draining.wait(
            ROOM_POLL_SECONDS
        ):
            pass
        if not self.draining.is_set():
            logger.info("Enough disk space is free again; this worker runs jobs again")

    def _train_and_evaluate(
        self,
        claim: Claim,
        lease: Lease,
        folder: Path,
        clock: StageClock,
        uploader: CheckpointUploader,
        progress: JobProgress,
    ) -> bool:
        """Train, publish and evaluate the model, or only evaluate it. Return False if the lease was lost."""

        def on_message(message: dict[str, Any]) -> None:
            kind = message.pop("type")
            if kind == "warning":
                self._retry_transaction(lambda s: leases.record_warning(s, claim, **message))
            elif kind == "checkpoint":
                uploader.notify()
            elif kind == "resumed":
                logger.info("%s: resumed after epoch %d", claim.job_id, message["epoch"])
                self._retry_transaction(lambda s: leases.record(s, claim, RESUMED, epoch=message["epoch"]))
            elif kind == "stage":
                clock.begin(message["stage"])
                progress.enter(message["stage"])
            elif kind == "plan":
                progress.plan(**message)
            elif kind == "work":
                progress.work(**message)
            elif kind == "trained":
                publish(message)
            else:
                progress.step(message)

        def publish(result: dict[str, Any]) -> None:
            if lease.cancelled.is_set() or lease.lost.is_set():
                raise Stopped
            clock.begin(PUBLISHING)
            progress.trained()
            progress.enter(PUBLISHING)
            if not self._publish(claim, folder, result, progress.fields, should_stop):
                lease.lost.set()
                raise Stopped
            uploader.discard()
            progress.publish()
            self._remove_checkpoints(claim.job_id)

        def should_stop() -> bool:
            return lease.cancelled.is_set() or lease.lost.is_set() or self.draining.is_set()

        clock.begin(PREPARING)
        installation.check(self.database, self.blobs)
        self._download_inputs(claim, folder, should_stop)
        self._download_checkpoint(claim, uploader)
        try:
            result = run_trainer(
                folder,
                on_message=on_message,
                should_stop=should_stop,
                deadline_seconds=self.settings.deadline_seconds,
                stall_seconds=self.settings.stall_seconds,
                standby=self.standby,
            )
        finally:
            if self.standby is not None and not self.draining.is_set():
                self.standby.prepare()  # for the next job, while this one ends
        if _is_evaluated(claim):
            held = self._finish(claim, folder, result)
        else:
            publish(result)
            held = True
        clock.begin(None)
        return held

    def _download_inputs(self, claim: Claim, folder: Path, should_stop: Callable[[], bool]) -> None:
        """Write images, task and a published model as files, which are all of the trainer's input."""
        trained_seconds = None
        with self.database.read() as session:
            images = jobs.images(session, claim.job_id)
            if claim.model_id is not None:
                model = session.get(Model, claim.model_id)
                trained_seconds = leases.training_seconds(session, claim.job_id)
        shots = []
        for image in images:
            if should_stop():
                raise Stopped
            file = f"{image.position:05d}"
            self.blobs.fetch(image.blob_key, folder / file, sha256=image.sha256)
            shots.append(
                {
                    "file": file,
                    "class_name": image.class_name,
                    "split": image.split,
                    "label_confirmed": image.label_confirmed,
                }
            )
        task = Task(
            config=claim.config,
            shots=shots,
            cache=str(self.settings.cache.absolute()),
            device=self.settings.device,
            max_image_bytes=self.settings.max_image_bytes,
            max_image_pixels=self.settings.max_image_pixels,
            checkpoint_seconds=self.settings.checkpoint_seconds,
            deadline_seconds=self.settings.deadline_seconds,
            serving_reserve_bytes=self.settings.serving_reserve_bytes,
            trained_seconds=trained_seconds,
            traceparent=tracing.current(),
            ids={"job_id": claim.job_id, "request_id": claim.request_id or ""},
            log=self.settings.log,
            log_level=self.settings.log_level,
        )
        if claim.model_id is not None:
            if model is None:
                raise TrainerFailed("model_deleted", "The model was deleted.")
            self.blobs.fetch(model.weights_key, folder / WEIGHTS, sha256=model.sha256)
            self.blobs.fetch(model.manifest_key, folder / MANIFEST)
        (folder / TASK).write_text(json.dumps(asdict(task)), encoding="utf-8")

    def _checkpoint_uploader(self, claim: Claim, folder: Path) -> CheckpointUploader:
        def record(stored: str, epoch: int) -> bool:
            return self._retry_transaction(lambda s: leases.record_checkpoint(s, claim, stored, epoch))

        return CheckpointUploader(self.database, self.blobs, claim.job_id, folder / CHECKPOINTS, record)

    def _download_checkpoint(self, claim: Claim, uploader: CheckpointUploader) -> None:
        """Download the last checkpoint of an earlier attempt, if there is an intact one.

        There is none once the model is published.
        """
        if uploader.fetch():
            code = "checkpoint_damaged"
            detail = (
                "A stored checkpoint is damaged. Training resumes from an earlier one, or starts again. "
                "Check the disk or the bucket of the storage."
            )
            self._retry_transaction(lambda s: leases.record_warning(s, claim, code, detail))

    def _remove_checkpoints(self, job_id: str) -> None:
        try:
            deletions.finish(self.database, self.blobs, folder_of(job_id))
        except ClipCiteError as error:
            logger.warning("%s: the dispatcher will remove the checkpoints: %s", job_id, error)

    def _publish(
        self,
        claim: Claim,
        folder: Path,
        result: dict[str, Any],
        progress: Callable[[], dict[str, Any]],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Upload the weights under unused names, then commit the model. Return False without the lease.

        Heartbeats go on during the upload, so `progress` is called in the transaction.
        """
        manifest = read_manifest((folder / MANIFEST).read_bytes())
        model_id = new_id("mdl")
        prefix = models.blobs_of(model_id)
        if file_sha256(folder / WEIGHTS) != manifest.sha256:
            raise CorruptWeights("The trained weights were damaged on the worker's disk. Check that disk.")
        with deletions.unless_kept(self.database, self.blobs, prefix):
            store_weights(self.blobs, prefix, folder, should_stop=should_stop)
            model = NewModel(
                id=model_id,
                name=claim.name,
                backbone=manifest.backbone,
                image_size=manifest.image_size,
                classes=list(manifest.class_names),
                alpha=claim.config["alpha"],
                templates=claim.config["templates"],
                prompts=claim.config["prompts"],
                weights_key=f"{prefix}/{WEIGHTS}",
                manifest_key=f"{prefix}/{MANIFEST}",
                sha256=manifest.sha256,
                bytes=manifest.bytes,
                delta_format=manifest.delta_format,
            )
            published = self._retry_transaction(
                lambda s: leases.publish(
                    s,
                    claim,
                    model,
                    result["metrics"],
                    progress=progress(),
                    seconds=result["seconds"],
                    evaluate=_is_evaluated(claim),
                )
            )
        logger.info("%s: %s", claim.job_id, f"published {model_id}" if published else "the lease was lost")
        return published

    def _finish(self, claim: Claim, folder: Path, result: dict[str, Any]) -> bool:
        """Upload the report, then commit the end of the job. Return False without the lease."""
        report = jobs.report_of(claim.job_id, new_id("rep"))
        with deletions.unless_kept(self.database, self.blobs, report):
            self.blobs.put(report, (folder / REPORT).read_bytes())
            finished = self._retry_transaction(lambda s: leases.finish(s, claim, result["metrics"], report))
        logger.info("%s: %s", claim.job_id, "evaluated" if finished else "the lease was lost")
        return finished

    def _retry_transaction(self, transition: Callable[[Session], T]) -> T:
        """Run a transition in its own transaction, and retry while the database is unavailable.

        Repeating a transition tells a commit whose answer was lost from one that never happened.
        """
        until = time.monotonic() + self.settings.lease_seconds / 2
        while True:
            try:
                with self.database.write() as session:
                    return transition(session)
            except DatabaseUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def _record_stop(self, claim: Claim, lease: Lease) -> str:
        """Record why the attempt was stopped. Return its outcome."""
        if lease.lost.is_set():
            logger.warning("%s: the lease is lost; attempt %d is discarded", claim.job_id, claim.attempt)
            return LOST
        if lease.cancelled.is_set():
            status = self._retry_transaction(lambda s: leases.finish_cancelled(s, claim))
            logger.info("%s: cancelled", claim.job_id)
            return status or LOST
        detail = "The worker was stopped. The job is queued again."
        outcome = self._requeue(claim, "worker_stopped", detail, spend_attempt=False)
        logger.info("%s: requeued, because this worker stops", claim.job_id)
        return outcome

    def _requeue(
        self,
        claim: Claim,
        code: str,
        detail: str,
        *,
        spend_attempt: bool = True,
        delay_seconds: float = 0,
    ) -> str:
        """Requeue the job, or fail it after its last attempt. Return the attempt's outcome."""
        status = self._retry_transaction(
            lambda s: leases.requeue(
                s,
                claim,
                spend_attempt=spend_attempt,
                max_attempts=self.settings.max_attempts,
                code=code,
                detail=detail,
                delay_seconds=delay_seconds,
            )
        )
        return LOST if status is None else REQUEUED if status == QUEUED else status


def _is_evaluated(claim: Claim) -> bool:
    return bool(claim.config.get("evaluate") != "none")


def _reason(error: Exception) -> tuple[str, str]:
    """Return code and detail of an error that the next attempt may not meet. The job's owner sees both."""
    if isinstance(error, ServerUnavailable):
        return error.code, error.public_detail or error.detail
    if isinstance(error, ClipCiteError):
        return error.code, error.detail
    if isinstance(error, OSError) and error.errno in FULL:
        return StorageFull.code, f"The worker's disk is full ({error.filename}). Free disk space there."
    return "internal_error", "Internal error in the worker. See the worker's log."
