"""Expected errors of the store."""

from clipcite.types.problems import ProblemAction
from core.errors import CodedError, ExpectedError


class ServerUnavailable(ExpectedError):
    """A server of the installation, such as the database, fails."""

    status = 503

    def __init__(self, detail: str, public_detail: str | None = None) -> None:
        """Make an error.

        Args:
            public_detail: text for clients, if `detail` may contain addresses of the operator's network.
        """
        super().__init__(detail)
        self.public_detail = public_detail


class DatabaseUnavailable(ServerUnavailable):
    """The database can't be reached, is too busy or read-only, or has tables of another version."""

    code = "database_unavailable"


class DatabaseFull(DatabaseUnavailable):
    """The disk of the database is full. Stored data is safe."""

    code = "storage_full"
    status = 507


class StorageUnavailable(ServerUnavailable):
    """Blobs can't be written or read."""

    code = "storage_unavailable"


class StorageFull(StorageUnavailable):
    code = "storage_full"
    status = 507


class BlobNotFound(ExpectedError):
    """A blob that a row names is missing."""

    code = "blob_missing"
    status = 503


class BlobDamaged(ExpectedError):
    """The bytes of a blob have changed since it was stored."""

    code = "blob_damaged"
    status = 503


class QueueUnavailable(ExpectedError):
    """The broker does not accept messages. Jobs are safe and wait in the database."""

    code = "queue_unavailable"
    status = 503


class NotFound(CodedError):
    """A job or a name lacks something. `code` says what."""

    status = 404


class JobNotFound(ExpectedError):
    code = "job_not_found"
    status = 404

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. ", ProblemAction.of("GET /jobs"), " lists your jobs.")


class ShotsGone(ExpectedError):
    """The training images of a model are not stored."""

    code = "training_images_gone"
    status = 409

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"The training images of {model_id!r} are not stored, because they or their job were deleted, or "
            "the model was imported. Send all images to ",
            ProblemAction.of("POST /adapt"),
            ".",
        )


class ReportPending(ExpectedError):
    """The model is being evaluated, and its report will follow."""

    code = "report_pending"
    status = 404
    retry_after = 5

    def __init__(self, job_id: str) -> None:
        super().__init__(
            "The model is ready, and its report follows when the evaluation has ended. Wait with ",
            ProblemAction.of("GET /jobs/{job_id}", job_id=job_id, wait="60"),
            ".",
        )


class PileNotFound(ExpectedError):
    code = "pile_not_found"
    status = 404

    def __init__(self, pile_id: str) -> None:
        super().__init__(
            f"There is no pile {pile_id!r}. ", ProblemAction.of("GET /piles"), " lists your piles."
        )


class ModelNotFound(ExpectedError):
    code = "model_not_found"
    status = 404

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"There is no model {model_id!r}. ", ProblemAction.of("GET /models"), " lists your models."
        )


class InvalidCursor(ExpectedError):
    """`after` is not a cursor."""

    code = "invalid_cursor"
    status = 422

    def __init__(self, after: str) -> None:
        super().__init__(
            f"`after` is {after[:60]!r}, which is not a cursor. Send the `next_cursor` of a page unchanged, "
            "or start again without `after`."
        )


class Conflict(CodedError):
    """The state of a job, a model or an alias doesn't allow the operation."""

    status = 409
