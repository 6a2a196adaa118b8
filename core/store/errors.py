"""Expected failures of the store."""

from core.errors import ClipCiteError


class DatabaseUnavailable(ClipCiteError):
    """The database can't be reached, is too busy, or its tables are not the ones of this version."""

    code = "database_unavailable"
    status = 503


class DatabaseFull(DatabaseUnavailable):
    """The database takes nothing more; what it has taken stays."""

    code = "storage_full"
    status = 507


class StorageUnavailable(ClipCiteError):
    """Images and weights can't be written or read."""

    code = "storage_unavailable"
    status = 503


class StorageFull(StorageUnavailable):
    code = "storage_full"
    status = 507


class BlobNotFound(ClipCiteError):
    """A row points to a blob that is not there."""

    code = "blob_missing"
    status = 503


class BlobDamaged(ClipCiteError):
    """A blob is there, but not with the bytes that were stored."""

    code = "blob_damaged"
    status = 503


class QueueUnavailable(ClipCiteError):
    """The broker takes no message. No job is lost by that, they wait in the database."""

    code = "queue_unavailable"
    status = 503


class JobNotFound(ClipCiteError):
    code = "job_not_found"
    status = 404

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. GET /jobs lists those that exist.")


class PreflightNotFound(ClipCiteError):
    code = "preflight_not_found"
    status = 404

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The job {job_id!r} was made by a version without preflights. POST /adapt?dry_run=true with its "
            "images makes one."
        )


class ShotsGone(ClipCiteError):
    """What a model was made from is no longer there."""

    code = "training_images_gone"
    status = 409

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"The images that the model {model_id!r} was made from are not here: they are kept with its "
            "job, and that was deleted, or the model was made elsewhere. POST /adapt with all images."
        )


class ReportNotFound(ClipCiteError):
    """`detail` says why there is none."""

    code = "report_not_found"
    status = 404


class ModelNotFound(ClipCiteError):
    code = "model_not_found"
    status = 404

    def __init__(self, model_id: str) -> None:
        super().__init__(f"There is no model {model_id!r}. GET /models lists those that exist.")


class InvalidCursor(ClipCiteError):
    """`after` is no cursor of a list."""

    code = "invalid_cursor"
    status = 422

    def __init__(self, after: str) -> None:
        super().__init__(
            f"`after` is {after[:60]!r}, which is no `next_cursor` of a page. Send a page's `next_cursor` "
            "as it is, or start again without `after`."
        )


class JobConflict(ClipCiteError):
    """The job's state doesn't allow it. `code` says which rule."""

    status = 409

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ModelConflict(ClipCiteError):
    """What a model or an alias is used for doesn't allow it. `code` says which rule."""

    status = 409

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class AliasNotFound(ClipCiteError):
    code = "alias_not_found"
    status = 404

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(
            f"There is no alias {alias!r} of {name!r}. GET /models/{name}/aliases lists those that exist."
        )
