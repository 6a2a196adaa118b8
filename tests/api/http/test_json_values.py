"""Counting the values of a JSON document without parsing it, across any chunk boundaries."""

import json

from hypothesis import given
from hypothesis import strategies as st

from api.http.json_values import JsonValues

TEXTS = st.text(st.sampled_from('ab"\\,[{é'))
DOCUMENTS = st.recursive(
    TEXTS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


def values_of(document: object) -> int:
    """Count the strings, objects, arrays and commas in the text."""
    if isinstance(document, str):
        return 1
    if isinstance(document, list):
        return 1 + max(0, len(document) - 1) + sum(map(values_of, document))
    if isinstance(document, dict):
        commas = max(0, len(document) - 1)
        return 1 + commas + len(document) + sum(map(values_of, document.values()))
    return 0


@given(DOCUMENTS, st.lists(st.integers(0, 200)), st.booleans())
def test_the_count_is_that_of_the_document(document: object, cuts: list[int], escaped: bool) -> None:
    text = json.dumps(document, ensure_ascii=escaped).encode()
    values = JsonValues()
    ends = [*sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for start, end in zip([0, *ends], ends, strict=False):
        values.add(text[start:end])
    assert values.count == values_of(document)
