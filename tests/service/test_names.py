"""Resource names, page tokens, addresses and the other strings that are taken apart."""

import base64
import zlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.domain.resource_names import (
    COLLECTION_ID,
    DocumentName,
    PassageName,
    collection_name,
    parse_collection,
    parse_document,
    parse_passage,
)
from retrieval.errors import InvalidArgument, StaleGeneration
from retrieval.service.config import Address, ServiceConfig, parse_address, parse_indexes
from retrieval.service.page_tokens import PageScope, page_size
from retrieval.store import Location

collections = st.from_regex(COLLECTION_ID, fullmatch=True)
document_ids = st.integers(1, 2**63 - 1)
ordinals = st.integers(0, 2**31 - 1)


@given(collections, document_ids, ordinals)
def test_names_round_trip(collection: str, document_id: int, ordinal: int) -> None:
    document = DocumentName(collection, document_id)
    passage = PassageName(collection, document_id, ordinal)
    assert parse_collection(collection_name(collection), field="name") == collection
    assert parse_document(str(document), field="name") == document
    assert parse_passage(str(passage), field="name") == passage


@given(st.text())
def test_other_names_are_refused(text: str) -> None:
    for parse in (parse_document, parse_passage):
        with pytest.raises(InvalidArgument) as caught:
            parse(text, field="name")
        assert caught.value.metadata["field"] == "name"
        assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "collections/",
        "collections/Default",
        "collections/a\n",
        "collections/../x",
        "collections/" + "a" * 64,
        "collections/a/documents/1",
    ],
)
def test_malformed_collections(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_collection(name, field="collection")


@pytest.mark.parametrize("number", ["0", "01", "-1", "1.0", str(2**63), "١", ""])
def test_malformed_document_ids(number: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_document(f"collections/a/documents/{number}", field="name")


Position = str | frozenset[tuple[int, int]]

scopes = st.builds(PageScope, st.binary(max_size=50), st.text(max_size=9))
ONE = PageScope(b"request", "a")
entries = st.frozensets(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1)))
positions = entries | st.text(max_size=30)


def read(scope: PageScope, token: str, position: Position) -> Position:
    return scope.key(token) if isinstance(position, str) else scope.entries(token)


@given(scopes, positions)
def test_page_tokens_round_trip(scope: PageScope, position: Position) -> None:
    assert read(scope, scope.token_after(position), position) == position


@given(scopes, positions, st.data())
def test_altered_page_tokens_are_refused(
    scope: PageScope, position: Position, data: st.DataObject
) -> None:
    token = scope.token_after(position)
    at = data.draw(st.integers(0, len(token) - 2))  # the last digit may carry unused bits
    char = data.draw(st.sampled_from("abcXYZ059-_*é"))
    altered = token[:at] + char + token[at + 1 :]
    if altered != token:
        with pytest.raises(InvalidArgument) as caught:
            read(scope, altered, position)
        assert caught.value.metadata["field"] == "page_token"


@given(st.text(min_size=1))
def test_strings_that_are_no_page_tokens(text: str) -> None:
    for parse in (ONE.entries, ONE.key):
        with pytest.raises(InvalidArgument):
            parse(text)


def test_page_tokens_for_another_kind_of_list() -> None:
    with pytest.raises(InvalidArgument):
        ONE.entries(ONE.token_after("a long key"))
    with pytest.raises(InvalidArgument):
        ONE.key(ONE.token_after(frozenset({(1, 2)})))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        zlib.compress(b"x" * 13),
        zlib.compress(b"x" * 12)[:-1],
        zlib.compress(bytes(1 << 20)),
    ],
)
def test_positions_that_no_server_made(raw: bytes) -> None:
    index = ONE._index
    packed = index + ONE._digest(index, raw) + raw
    token = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    with pytest.raises(InvalidArgument, match="malformed"):
        ONE.entries(token)


def test_a_token_is_small() -> None:
    draw = Random(0)
    for count, most in ((10, 130), (100, 700), (1_000, 5_500), (10_000, 45_000)):
        seen = frozenset((draw.randrange(1_000_000), draw.randrange(20)) for _ in range(count))
        token = ONE.token_after(seen)
        assert len(token) <= most, (count, len(token))
        assert ONE.entries(token) == seen


@given(scopes, positions)
def test_page_tokens_of_others(scope: PageScope, position: Position) -> None:
    token = scope.token_after(position)
    with pytest.raises(InvalidArgument, match="another request"):
        read(PageScope(scope.request + b"x", scope.index_id), token, position)
    with pytest.raises(StaleGeneration, match="start again from the first page"):
        read(PageScope(scope.request, f"{scope.index_id}x"), token, position)


def test_page_sizes() -> None:
    assert page_size(0, default=10, maximum=1000) == 10
    assert page_size(1000, default=10, maximum=1000) == 1000
    for bad in (-1, 1001):
        with pytest.raises(InvalidArgument, match="from 1 to 1000"):
            page_size(bad, default=10, maximum=1000)


@given(
    st.sampled_from(["127.0.0.1", "localhost", "::1", "0.0.0.0", "example.org"]),
    st.integers(0, 65_535),
)
def test_addresses_round_trip(host: str, port: int) -> None:
    assert parse_address(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["", "localhost", ":50051", "a:", "a:x", "a:65536", "a:-1", "::1:80", "[a]:80", "a:1\n"]
)
def test_malformed_addresses(text: str) -> None:
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        parse_address(text)


def test_an_open_address_must_be_asked_for() -> None:
    indexes = {"default": Path("index")}
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(InvalidArgument, match="--insecure"):
            ServiceConfig(indexes, Address(host, 1))
        assert ServiceConfig(indexes, Address(host, 1), insecure=True).listen.host == host
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        assert not ServiceConfig(indexes, Address(host, 1)).insecure


@pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf")])
def test_a_grace_period_is_a_length_of_time(grace: float) -> None:
    with pytest.raises(InvalidArgument, match="--grace"):
        ServiceConfig({"default": Path("index")}, grace_seconds=grace)


def test_index_options() -> None:
    assert parse_indexes(["docs/index"]) == {"default": Location.parse("docs/index")}
    assert parse_indexes(["a=x", "b=y=z", "./c=d"]) == {
        "a": Location.parse("x"),
        "b": Location.parse("y=z"),
        "default": Location.parse("./c=d"),
    }
    with pytest.raises(InvalidArgument, match="two indexes for collection default"):
        parse_indexes(["x", "y"])
    with pytest.raises(InvalidArgument, match="empty"):
        parse_indexes([""])
