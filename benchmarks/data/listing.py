"""Which entries of a folder are classes and which are images, in an order that no machine changes."""

from pathlib import Path

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def class_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted; hidden ones are left out."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by the endings of their names, sorted; hidden ones are left out."""
    # No is_file(): it asks the disk once more for each of ImageNet's 1.3 million images.
    images = [p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith(".")]
    return sorted(images, key=lambda p: p.name)
