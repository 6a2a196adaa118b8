"""Errors about rejected archives."""

from core.errors import CodedError


class ArchiveError(CodedError):
    """The whole archive is rejected."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(code, detail)
        self.status = status


def broken(reason: str) -> ArchiveError:
    return ArchiveError("broken_archive", f"The archive is damaged or cut short: {reason}. Pack it again.")


def too_large(max_bytes: int) -> ArchiveError:
    return ArchiveError(
        "archive_too_large",
        f"The archive unpacks to more than {max_bytes:,} bytes. Send fewer or smaller images.",
        413,
    )


def reason(error: Exception) -> str:
    # Escaped and cut, because these messages may quote names from the archive.
    return repr(str(error))[1:-1][:100] or "unreadable"
