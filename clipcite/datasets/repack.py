"""Conversion of tar archives to zip, the only archive format of the service."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import Self

from clipcite.client.errors import InvalidImages
from clipcite.datasets.image import CHUNK, ImageFile

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError, ValueError, RecursionError)


class _StrictHeader(tarfile.TarInfo):
    """A header that must be valid: by default tarfile treats a broken header as the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            raise
        except HeaderError as error:
            raise ReadError(f"no end-of-archive marker ({error})") from error


def is_tar(path: Path) -> bool:
    """Return True for the name of a tar. The content is checked when the tar is repacked."""
    return path.name.lower().endswith(TARS)


def zip_of_tar(path: Path) -> ImageFile:
    """Repack the regular files of a tar in a temporary zip, which is deleted with the returned object.

    Raises:
        InvalidImages: an unreadable tar, or a tar with links or devices.
    """
    file = tempfile.TemporaryFile(prefix="clipcite-")  # noqa: SIM115 - as long-lived as the returned object
    try:
        # Streaming mode reads the tar once, so that nothing is unpacked twice or kept.
        with (
            tarfile.open(path, "r|*", tarinfo=_StrictHeader) as tar,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed,
        ):
            for entry in tar:
                if entry.isdir():
                    continue
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None:
                    raise InvalidImages(
                        f"{entry.name!r} in {path} is a link or a device. Pack regular files instead: tar "
                        "--dereference."
                    )
                info = zipfile.ZipInfo(entry.name)
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                info.file_size = entry.size  # zipfile decides on zip64 by this size
                with packed.open(info, "w") as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except UNREADABLE as error:
        file.close()
        raise InvalidImages(
            f"{path} cannot be repacked as a zip ({str(error) or type(error).__name__}). Create the archive "
            "again, or free disk space."
        ) from error
    except BaseException:
        file.close()
        raise
    size = file.tell()

    def chunks() -> Iterator[bytes]:
        file.seek(0)
        while chunk := file.read(CHUNK):
            yield chunk

    return ImageFile(f"{path.name}.zip", chunks, size, path)
