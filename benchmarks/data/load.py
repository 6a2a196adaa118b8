"""The one entry to all data sets."""

from pathlib import Path

from benchmarks.data.dataset import DataSet
from benchmarks.data.folders import read_folders
from benchmarks.data.papers import read_paper_dataset


def load(root: Path, name: str | None = None) -> DataSet:
    """A data set of the papers or one's own images.

    Args:
        root: with a name, the folder that holds the papers' data sets side by side; without one, a
            folder with `train/<class>/` and `test/<class>/`.
        name: a key of benchmarks.data.papers.DATASETS, as `DTD` or `ImageNet-A`.

    Raises:
        BadDataSet: something is missing; the message says what to do.
    """
    return read_folders(root) if name is None else read_paper_dataset(root, name)
