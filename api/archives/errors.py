"""Errors about rejected archives and warnings about ignored entries."""

from core.errors import ClipCiteError

Warnings = list[dict[str, str]]


class ArchiveError(ClipCiteError):
    """The whole archive is rejected. `code` is the reason."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(detail)
        self.code = code
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


def short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:40]}…{name[-39:]}"


def shown(parts: tuple[str, ...]) -> str:
    return "/".join(parts)


def name_list(names: list[str], max_names: int = 5) -> str:
    shown = ", ".join(repr(short(name)) for name in names[:max_names])
    return shown + (f" and {len(names) - max_names} more" if len(names) > max_names else "")


def warn(warnings: Warnings, code: str, detail: str, names: list[str]) -> None:
    """Append one warning for all names, if there are any. `detail` may contain {n} and {names}."""
    if names:
        text = detail.replace("{n}", f"{len(names):,}").replace("{names}", name_list(names))
        warnings.append({"code": code, "detail": text + "."})
