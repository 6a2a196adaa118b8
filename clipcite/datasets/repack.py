"""A tar made into a zip, which is the one archive that the service takes."""

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
    """tarfile takes a broken header, and the lack of any, for the end; entries would be missing."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            raise
        except HeaderError as error:
            raise ReadError(f"it ends without its end mark ({error})") from error


def is_tar(path: Path) -> bool:
    """By its name; the content is looked at when it is repacked."""
    return path.name.lower().endswith(TARS)


def zip_of_tar(path: Path) -> ImageFile:
    """The regular files of a tar, stored in a temporary zip that goes with the returned image.

    Folders are left out, the names of the files hold them.

    Raises:
        InvalidImages: no readable tar, or one with a link or a device in it.
    """
    file = tempfile.TemporaryFile(prefix="clipcite-")  # noqa: SIM115 - lives as long as the image
    try:
        # A stream goes through once and forward: nothing is unpacked twice or kept.
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
                        f"{entry.name!r} in {path} is a link or a device, not a file. Pack the files "
                        "themselves: tar --dereference."
                    )
                info = zipfile.ZipInfo(entry.name)
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                info.file_size = entry.size  # zipfile decides by it on 64-bit sizes
                with packed.open(info, "w") as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except UNREADABLE as error:
        file.close()
        raise InvalidImages(
            f"{path} can't be repacked as a zip: {str(error) or type(error).__name__}. If it is damaged, "
            "pack it again; if the disk is full, make room there."
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
