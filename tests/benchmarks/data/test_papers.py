"""The nine data sets with a split file, and the properties shared by all fifteen."""

from pathlib import Path

import pytest

from benchmarks.data.dataset import BadDataSet
from benchmarks.data.load import load
from benchmarks.data.papers import DATASETS


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_folder_is_named_with_where_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadDataSet, match=rf"{name} is not in .*{DATASETS[name].folder}\. .*DATASETS\.md"):
        load(tmp_path, name)
