"""Checksums of rows stay what earlier versions wrote."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from retrieval.store.disk.tables.rows import chunk_digest, document_digest

_texts = st.text(st.characters(exclude_categories=()), max_size=20)
_columns = st.lists(st.one_of(_texts, st.integers(0, 2**62)), min_size=10, max_size=10)


def _by_json(values: list[str | int]) -> bytes:
    data = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).digest()


@given(_columns)
def test_a_documents_digest_is_that_of_its_columns_as_json(columns: list[str | int]) -> None:
    assert document_digest(*columns) == _by_json(columns)


@given(_texts, _columns, st.booleans())
def test_a_chunks_digest_leaves_pages_out_where_it_has_none(
    uri: str, columns: list[str | int], paged: bool
) -> None:
    columns[-2:] = [1, 2] if paged else [0, 0]
    assert chunk_digest(uri, *columns) == _by_json([uri, *(columns if paged else columns[:-2])])
