"""Class folders and images of a folder, in the same order on all machines."""

from pathlib import Path

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in `folder`, without hidden ones."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())


def images_in(folder: Path) -> list[Path]:
    """Return the sorted images of a folder by file extension, without hidden ones."""
    # No is_file(): it would cost a disk access for each of ImageNet's 1.3 million images.
    images = [p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith(".")]
    return sorted(images, key=lambda p: p.name)
