"""Split and class of files by their folders, before they are uploaded."""

from collections import Counter

from api.archives.read import is_image, safe_parts
from api.http.forms import display_name
from api.jobs.form import InvalidUpload
from api.jobs.upload import clean_folder_names, max_files
from clipcite.types.adapt import Layout, LayoutFolder
from clipcite.types.folders import (
    LEFT_OUT,
    LeftOut,
    Parts,
    Split,
    UnclearLayout,
    is_hidden,
    place_images,
)
from clipcite.types.problems import Notice
from core.settings import Settings


def place_files(paths: list[str], settings: Settings) -> Layout:
    """Place files by the rules of an archive.

    Raises:
        InvalidUpload, ArchiveError: an archive with these files would be rejected.
    """
    if len(paths) > max_files(settings):
        raise InvalidUpload(
            "too_many_files",
            f"There are {len(paths):,} files. Send only the folders of your classes: the maximum is "
            f"{max_files(settings):,} files.",
            status=413,
        )
    files = [safe_parts(path) for path in paths]
    left_out: dict[Parts, LeftOut] = {}
    for file in files:
        if any(map(is_hidden, file)):
            left_out[file] = "hidden_files"
        elif not file or not is_image(file[-1]):
            left_out[file] = "other_files"
    images = [file for file in files if file not in left_out]
    if len(images) > settings.max_images:
        raise InvalidUpload(
            "too_many_images",
            f"There are {len(images):,} images. Send fewer: the maximum is {settings.max_images:,}.",
            status=413,
        )
    try:
        placed, ignored, _ = place_images(images)
    except UnclearLayout as error:
        raise InvalidUpload("unclear_layout", str(error)) from error
    left_out |= ignored
    names = clean_folder_names((name, "/".join(image)) for image, _, name in placed)
    places = {image: (split, names[name]) for image, split, name in placed}
    index: dict[tuple[str, Split | None, str | None, LeftOut | None], int] = {}
    positions = [
        index.setdefault(
            ("/".join(file[:-1]), *places.get(file, (None, None)), left_out.get(file)), len(index)
        )
        for file in files
    ]
    count = Counter(positions)
    return Layout(
        folders=[
            LayoutFolder(
                folder=display_name(folder),
                split=split,
                class_name=name,
                left_out=code and Notice(code=code, detail=LEFT_OUT[code]),
                files=count[position],
            )
            for (folder, split, name, code), position in index.items()
        ],
        files=positions,
    )
