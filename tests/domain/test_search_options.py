"""The table of search options, and that all who follow it agree."""

import math
from typing import Any, get_type_hints

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client.requests import search_request
from retrieval.commands.search_options import search_options
from retrieval.domain.search_options import (
    DEFAULT_K,
    MAX_K,
    OPTIONS,
    FilterObject,
    Option,
    QueryOptions,
    SearchOptions,
)
from retrieval.errors import InvalidArgument
from retrieval.search import Query, check_query
from retrieval.service.grpc_api.messages import to_query
from retrieval.service.page_tokens import page_size
from retrieval.v1 import index_service_pb2, search_service_pb2

ON_THE_COMMAND_LINE = [option for option in OPTIONS.values() if option.flag]
MESSAGES = (search_service_pb2.StreamSearchRequest, search_service_pb2.SearchRequest)
OF_PAGES = {"page_size", "page_token"}
"""Fields of a search for a page that a streamed search has no use for."""
WITH = {"group_size": {"group_by_document": True, "k": 1}}
"""What else an option needs to be of use."""


def values_of(option: Option) -> st.SearchStrategy[Any]:
    """Values in range, just out of range, and far off; numbers that a float32 can carry."""
    near = [option.minimum or 0, option.maximum or 0]
    match option.kind:
        case "flag":
            return st.booleans()
        case "whole number":
            edges = [round(edge) + step for edge in near for step in (-1, 0, 1)]
            return st.sampled_from(edges) | st.integers(-(2**31), 2**31 - 1)
        case "number":
            inside = st.floats(0, 1, width=32)
            return inside | st.floats(width=32) | st.sampled_from([float(edge) for edge in near])
        case "choice":
            return st.sampled_from([*option.choices]) | st.text(st.characters(codec="ascii"))
        case "text":
            return st.sampled_from(["", "tag=a", "path:guides/** AND year>=2020", "tag=", "("])


def refused_here(options: dict[str, Any]) -> str:
    """Return the field that a query is refused for, empty if it is not."""
    try:
        check_query(Query("words", **options))
    except InvalidArgument as error:
        return error.metadata["field"]
    return ""


def refused_by_client_or_server(options: dict[str, Any]) -> str:
    """The same for a request that the client makes and the server reads."""
    keywords = {"k": DEFAULT_K, **options}
    try:
        request = search_request("words", **keywords)
        sent = search_service_pb2.SearchRequest.FromString(request.SerializeToString())
        k = page_size(sent.page_size, default=DEFAULT_K, maximum=MAX_K)
        check_query(to_query(sent, collection="default", k=k))
    except InvalidArgument as error:
        field = error.metadata["field"]
        return OPTIONS[field].wire_field if field in OPTIONS else field
    return ""


def refused_on_the_command_line(options: dict[str, Any]) -> str:
    """The same for the options of a command."""
    arguments = []
    for name, value in options.items():
        if isinstance(value, bool):
            arguments += [OPTIONS[name].flag] if value else []
        else:
            arguments += [OPTIONS[name].flag, str(value)]
    command = search_options(click.Command("search", callback=lambda **parsed: parsed))
    try:
        parsed = command.main(arguments, standalone_mode=False)
    except click.BadParameter as error:
        assert error.param is not None
        assert error.param.name is not None
        return OPTIONS[error.param.name].wire_field
    return refused_here(parsed)


@pytest.mark.parametrize("option", ON_THE_COMMAND_LINE, ids=lambda option: option.name)
@given(data=st.data())
def test_all_refuse_the_same_values(option: Option, data: st.DataObject) -> None:
    value = data.draw(values_of(option))
    options = {**WITH.get(option.name, {}), option.name: value}
    refused = refused_here(options)
    assert refused in ("", option.wire_field)
    assert refused_by_client_or_server(options) == refused
    assert refused_on_the_command_line(options) == refused
    if option.closed_range:
        smallest, largest = option.closed_range
        assert (not refused) == (smallest <= value <= largest)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 1.0])
def test_a_weight_is_strictly_between_0_and_1(value: float) -> None:
    assert refused_here({"dense_weight": value}) == "dense_weight"


@given(st.data())
def test_options_arrive_as_they_were_sent(data: st.DataObject) -> None:
    sent = {
        option.name: data.draw(values_of(option))
        for option in ON_THE_COMMAND_LINE
        if option.name != "k"
    }
    try:
        check_query(Query("words", **sent))
    except InvalidArgument:
        return
    request = search_request("words", k=1, **sent)
    query = to_query(request, collection="default", k=1)
    assert {name: getattr(query, name) for name in sent} == sent


def test_what_is_not_given_means_the_default() -> None:
    empty = search_service_pb2.SearchRequest(text="words")
    assert to_query(empty, collection="default", k=DEFAULT_K) == Query("words")
    assert all(getattr(Query("words"), name) == OPTIONS[name].default for name in OPTIONS)
    parsed = search_options(click.Command("search", callback=lambda **given: given)).main(
        [], standalone_mode=False
    )
    assert Query("words", **parsed) == Query("words")


def test_a_streamed_search_has_all_fields_of_a_search() -> None:
    def fields(message: Any) -> dict[str, tuple[Any, ...]]:
        return {
            one.name: (one.number, one.type, one.message_type, one.enum_type, one.has_presence)
            for one in message.DESCRIPTOR.fields
        }

    stream, page = map(fields, MESSAGES)
    assert set(page) - set(stream) == OF_PAGES
    assert set(stream) - set(page) == {"limit"}
    for name in set(stream) & set(page):
        assert stream[name] == page[name], name


@pytest.mark.parametrize("message", MESSAGES)
def test_the_clients_keywords_are_the_fields_of_the_message(message: Any) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    expected = {name for name in OPTIONS if name in fields} | {"collection"}
    assert SearchOptions.__optional_keys__ == expected
    types = get_type_hints(SearchOptions)
    of_queries = get_type_hints(QueryOptions)
    for name in expected - {"collection"}:
        # A number can be left to the server, and a filter can be an expression.
        assert types[name] in (
            *(of_queries[name], of_queries[name] | None, of_queries[name] | FilterObject),
        )


def test_every_option_is_on_the_wire() -> None:
    fields = search_service_pb2.SearchRequest.DESCRIPTOR.fields_by_name
    limits = index_service_pb2.ServerLimits.DESCRIPTOR.fields_by_name
    for option in OPTIONS.values():
        assert option.wire_field in fields
        if option.server_limit:
            assert option.server_limit in limits
