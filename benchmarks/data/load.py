"""Entry point to all data sets."""

from pathlib import Path

from benchmarks.data.dataset import DataSet
from benchmarks.data.folders import read_folders
from benchmarks.data.papers import read_paper_dataset


def load(root: Path, name: str | None = None) -> DataSet:
    """Load a data set of the papers or own images.

    Args:
        root: with a name, the parent folder of the papers' data sets; without one, a folder with
            `train/<class>/` and `test/<class>/`.
        name: a key of benchmarks.data.papers.DATASETS, for example `DTD` or `ImageNet-A`.

    Raises:
        BadDataSet: the data set is missing or incomplete; the message has the remedy.
    """
    return read_folders(root) if name is None else read_paper_dataset(root, name)
