"""Why an archive is refused or what of it was passed over, in words."""

from core.errors import ClipCiteError

Warnings = list[dict[str, str]]


class ArchiveError(ClipCiteError):
    """The archive as a whole is refused; `code` says why."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status


def broken(reason: str) -> ArchiveError:
    return ArchiveError("broken_archive", f"The archive is damaged or cut short: {reason}. Pack it anew.")


def too_large(max_bytes: int) -> ArchiveError:
    return ArchiveError(
        "archive_too_large",
        f"The archive unpacks to more than {max_bytes:,} bytes; send fewer or smaller images.",
        413,
    )


def too_many_entries(max_entries: int) -> ArchiveError:
    return ArchiveError(
        "archive_too_large", f"The archive has more than {max_entries:,} entries; send fewer.", 413
    )


def special(name: str) -> ArchiveError:
    return ArchiveError(
        "symlink_in_archive",
        f"The archive's entry {short(name)!r} is a link or a device, not a file; pack the files themselves.",
    )


def reason(error: Exception) -> str:
    # repr, cut: these messages may quote names out of the archive
    return repr(str(error))[1:-1][:100] or "unreadable"


def short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:40]}…{name[-39:]}"


def shown(parts: tuple[str, ...]) -> str:
    return "/".join(parts)


def name_list(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(short(name)) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def warn(warnings: Warnings, code: str, detail: str, names: list[str]) -> None:
    """One warning for any number of names. `detail` holds {n} and {names}."""
    if names:
        text = detail.replace("{n}", f"{len(names):,}").replace("{names}", name_list(names))
        warnings.append({"code": code, "detail": text + "."})
