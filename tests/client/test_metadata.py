"""Metadata with its types, as it comes over the wire."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client.results import metadata_from
from retrieval.domain.metadata import from_doubles
from retrieval.v1.document_pb2 import DocumentSummary

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_values_are_those_of_json(fields: dict[str, Any]) -> None:
    sent = Struct()
    sent.update(fields)
    found = metadata_from(DocumentSummary(typed_metadata=sent))
    assert found == {
        name: from_doubles(MessageToDict(value)) for name, value in sent.fields.items()
    }
