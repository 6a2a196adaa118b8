"""Phone pictures: HEIC is decoded here and sent as JPEG, which every service reads."""

import io
from collections.abc import Callable
from pathlib import Path

from clipcite.client.errors import InvalidImages

HEIC_ENDINGS = frozenset({".heic", ".heif"})
QUALITY = 95


def jpeg_of_heic() -> Callable[[Path], bytes]:
    """The function that does it. Raises InvalidImages where the extra is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise InvalidImages(
            "HEIC pictures need one more package: pip install pillow-heif. Or export them as JPEG."
        ) from error

    def convert(path: Path) -> bytes:
        try:
            # Upright: the decoder applies the rotation that the file asks for.
            picture = pillow_heif.open_heif(path, convert_hdr_to_8bit=True).to_pillow().convert("RGB")
        except (ValueError, OSError, EOFError) as error:
            raise InvalidImages(
                f"{path} is no readable HEIC picture ({error}). Export it as JPEG."
            ) from error
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    return convert
