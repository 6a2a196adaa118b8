"""Execution of a training job, from claim to publication and evaluation."""

import atexit
import logging
import threading
from collections import Counter
from pathlib import Path

from prometheus_client import CollectorRegistry

from clipcite.types.jobs import FINAL, STAGE_OF
from core.clip.checks.estimate import work_by_phase
from core.clip.config import stored_settings
from core.clip.data.splits import MIN_SPLIT_IMAGES
from core.errors import ExpectedError
from core.log import about
from core.scratch import DISK_FULL, WorkerDiskFull, scratch_folder
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import PREPARING, PUBLISHING, QUEUED, SUCCEEDED
from core.store.errors import ServerUnavailable, StorageFull, StorageUnavailable
from core.store.jobs import lifecycle
from core.store.jobs.jobs import checkpoints_of
from core.store.jobs.lifecycle import RESUMED, Claim, of_request
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs
from worker.checkpoints import CheckpointUploader
from worker.inputs import download_inputs, images_of
from worker.lease import Lease
from worker.metrics import StageClock, WorkerMetrics
from worker.paces import keep_paces, kept_paces
from worker.progress import JobProgress
from worker.publication import end_job, publish_model
from worker.trainer.process import WarmTrainer
from worker.trainer.protocol import (
    CHECKPOINTS,
    REPORT,
    Advance,
    CheckpointStored,
    Message,
    PhaseBegun,
    Result,
    Resumed,
    Step,
    Trained,
    Warn,
)
from worker.trainer.supervisor import Stopped, TrainerFailed, run_trainer

logger = logging.getLogger(__name__)
WAITS = {StorageFull.code, StorageUnavailable.code}
"""Errors after which a job waits for the storage. The attempt does not count."""
LOST, REQUEUED = "lost", "requeued"
"""Outcomes of attempts that do not end their job."""


class JobRunner:
    """Runs jobs. The database row is authoritative. The message with the id is only a wake-up."""

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
        self.warm_trainer = WarmTrainer() if settings.warm_trainer else None
        if self.warm_trainer is not None:
            atexit.register(self.warm_trainer.close)
            self.warm_trainer.prepare()

    def run(self, job_id: str) -> None:
        """Claim the job and run it. Do nothing if it can't be claimed."""
        if self.draining.is_set():
            return
        with self.database.write() as session:
            claim = lifecycle.claim(
                session,
                job_id,
                worker=self.name,
                lease_seconds=self.settings.lease_seconds,
                max_running=self.settings.max_running_jobs,
            )
        if claim is None:
            return
        with about(**of_request(claim.request_id)):
            logger.info("%s: attempt %d started", job_id, claim.attempt)
            self._run(claim)

    def _run(self, claim: Claim) -> None:
        """Run one attempt to its end."""
        progress = JobProgress(published=claim.model_id is not None)
        settings = self.settings
        lease = Lease(
            self.database,
            claim,
            progress.fields,
            lease_seconds=settings.lease_seconds,
            beat_seconds=settings.heartbeat_seconds,
            draining=self.draining,
        )
        code = ""
        with self.metrics.attempt() as clock, lease:
            try:
                with (
                    scratch_folder(settings.scratch()) as folder,
                    CheckpointUploader(
                        self.database,
                        self.blobs,
                        claim.job_id,
                        folder / CHECKPOINTS,
                        lambda stored, epoch: lease.write(lifecycle.record_checkpoint, stored, epoch),
                    ) as uploader,
                ):
                    self._train_and_evaluate(lease, folder, clock, uploader, progress)
                outcome = SUCCEEDED
            except Stopped:
                outcome = self._record_stop(lease)
            except TrainerFailed as error:
                logger.warning("%s: failed, %s: %s", claim.job_id, error.code, error)
                code = error.code
                outcome = lease.write(lifecycle.finish_failed, code=code, detail=error.detail) or LOST
            except Exception as error:
                code, detail = _reason(error)
                log = logger.exception if code == "internal_error" else logger.warning
                log("%s: attempt %d failed, %s: %s", claim.job_id, claim.attempt, code, error)
                # The job did not cause full or missing storage, so it waits without losing an attempt.
                outcome = self._requeue(lease, code, detail, spend_attempt=code not in WAITS)
            self.metrics.record_end(outcome, code)
            if outcome in FINAL:
                self._remove_checkpoints(claim.job_id)
        if code in WAITS:
            # Leave jobs to other workers meanwhile, because the next one would probably fail here too.
            self.draining.wait(settings.redispatch_seconds)

    def _train_and_evaluate(
        self,
        lease: Lease,
        folder: Path,
        clock: StageClock,
        uploader: CheckpointUploader,
        progress: JobProgress,
    ) -> None:
        """Train, publish and evaluate the model, or only evaluate it. Raise Stopped if the lease is lost."""
        claim = lease.claim

        def on_message(message: Message) -> None:
            match message:
                case PhaseBegun(phase=phase):
                    clock.begin(STAGE_OF[phase])
                    progress.enter(phase, message.at)
                case Step():
                    progress.step(message.progress, message.at)
                case Advance():
                    progress.advance(message.share, message.at)
                case Warn():
                    lease.write(lifecycle.record_warning, code=message.code, detail=message.detail)
                case CheckpointStored():
                    uploader.notify()
                case Resumed(epoch=epoch):
                    progress.resume()
                    logger.info("%s: resumed after epoch %d", claim.job_id, epoch)
                    lease.write(lifecycle.record, RESUMED, epoch=epoch)
                case Trained():
                    publish(message)

        def publish(result: Result) -> None:
            if lease.is_over():
                raise Stopped
            clock.begin(PUBLISHING)
            progress.enter("storing")
            publish_model(
                lease,
                self.blobs,
                folder,
                metrics=result.metrics,
                seconds=result.seconds,
            )
            uploader.discard()
            progress.publish()
            self._remove_checkpoints(claim.job_id)

        clock.begin(PREPARING)
        installation.check(self.database, self.blobs)
        images, config = images_of(lease), stored_settings(claim.config)
        per_class = Counter(image.class_name for image in images if image.split == "train")
        work = work_by_phase(
            config.model_dump(),  # the stored settings may lack fields
            per_class.total(),
            len(images) - per_class.total(),
            folds=max(per_class.values(), default=0) >= MIN_SPLIT_IMAGES,
        )
        progress.plan(work, kept_paces(config, self.settings.cache))
        download_inputs(self.settings, lease, self.blobs, images, folder)
        if uploader.fetch():
            warning = {
                "code": "checkpoint_damaged",
                "detail": "A stored checkpoint is damaged. Training resumes from an earlier one, or starts "
                "again. Check the disk or the bucket of the storage.",
            }
            lease.write(lifecycle.record_warning, **warning)
        try:
            result = run_trainer(
                folder,
                on_message=on_message,
                should_stop=lease.should_stop,
                deadline_seconds=self.settings.deadline_seconds,
                stall_seconds=self.settings.stall_seconds,
                warm_trainer=self.warm_trainer,
            )
        finally:
            if self.warm_trainer is not None and not self.draining.is_set():
                self.warm_trainer.prepare()  # for the next job, while this job ends
        if claim.wants_evaluation:
            end_job(lease, self.blobs, (folder / REPORT).read_bytes(), result.metrics)
        else:
            publish(result)
        clock.begin(None)
        keep_paces(config, self.settings.cache, progress.paces())

    def _remove_checkpoints(self, job_id: str) -> None:
        try:
            deletions.finish(self.database, self.blobs, checkpoints_of(job_id))
        except ExpectedError as error:
            logger.warning("%s: the dispatcher will remove the checkpoints: %s", job_id, error)

    def _record_stop(self, lease: Lease) -> str:
        """Record why the attempt was stopped. Return its outcome."""
        claim = lease.claim
        if lease.lost.is_set():
            logger.warning("%s: the lease is lost; attempt %d is discarded", claim.job_id, claim.attempt)
            return LOST
        if lease.cancelled.is_set():
            status = lease.write(lifecycle.finish_cancelled)
            logger.info("%s: cancelled", claim.job_id)
            return status or LOST
        detail = "The worker was stopped. The job is queued again."
        outcome = self._requeue(lease, "worker_stopped", detail, spend_attempt=False)
        logger.info("%s: requeued, because this worker stops", claim.job_id)
        return outcome

    def _requeue(self, lease: Lease, code: str, detail: str, *, spend_attempt: bool) -> str:
        """Requeue the job, or fail it after its last attempt. Return the attempt's outcome."""
        status = lease.write(
            lifecycle.requeue,
            spend_attempt=spend_attempt,
            max_attempts=self.settings.max_attempts,
            code=code,
            detail=detail,
        )
        return LOST if status is None else REQUEUED if status == QUEUED else status


def _reason(error: Exception) -> tuple[str, str]:
    """Return the code and detail of an error that another attempt may avoid. The job's owner sees both."""
    if isinstance(error, ServerUnavailable):
        return error.code, error.public_detail or error.detail
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        error = WorkerDiskFull(error.filename)
    if isinstance(error, ExpectedError):
        return error.code, error.detail
    return "internal_error", "Internal error in the worker. See the worker's log."
