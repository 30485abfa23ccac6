"""Requests to delete documents, and to create, change and delete collections."""

from retrieval.client.filters import FilterLike, filter_text
from retrieval.client.requests import resource_name
from retrieval.client.values import count, flag, number, sendable
from retrieval.errors import InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb


def delete_request(
    uri: str, *, if_sha256: str, wait: bool, collection: str
) -> pb.DeleteDocumentRequest:
    """Return a request to delete one document.

    Raises:
        InvalidArgument: a value can't be sent.
    """
    return pb.DeleteDocumentRequest(
        collection=resource_name(collection),
        uri=sendable(uri, field="uri"),
        if_sha256=sendable(if_sha256, field="if_sha256"),
        wait_for_visibility=flag(wait, field="wait"),
    )


def delete_where_request(
    filter: FilterLike | None,
    prefix: str | None,
    *,
    dry_run: bool,
    wait: bool,
    collection: str,
) -> pb.DeleteDocumentsRequest:
    """Return a request to delete all documents that match a filter or a prefix.

    Raises:
        InvalidArgument: neither or both are given, one is empty, or a value can't be sent.
    """
    if (filter is None) == (prefix is None):
        both = "both are given" if filter is not None else "none is given"
        raise InvalidArgument(f"give a filter or a prefix: {both}", field="filter")
    request = pb.DeleteDocumentsRequest(
        collection=resource_name(collection),
        dry_run=flag(dry_run, field="dry_run"),
        wait_for_visibility=flag(wait, field="wait"),
    )
    if prefix is not None:
        request.uri_prefix = _not_empty(prefix, field="prefix")
    else:
        request.filter = _not_empty(filter_text(filter), field="filter")
    return request


def _not_empty(value: str | None, *, field: str) -> str:
    """Return a condition, unless it is empty, as an unset variable leaves it behind."""
    text = sendable(value or "", field=field)
    if not text.strip():
        raise InvalidArgument(
            f"{field} is empty, which would be every document; to delete all that were put, give "
            "the filter uri:**",
            field=field,
        )
    return text


def create_collection_request(
    collection: str,
    *,
    model: str,
    chunk_tokens: int | None,
    chunk_overlap: int | None,
    settings: pb.CollectionSettings,
) -> pb.CreateCollectionRequest:
    """Return a request for a new collection; a setting of None is the server's default.

    Raises:
        InvalidArgument: a value can't be sent.
    """
    request = pb.CreateCollectionRequest(
        collection_id=sendable(collection, field="collection"),
        model=sendable(model, field="model"),
        settings=settings,
    )
    if chunk_tokens is not None:
        request.chunk_tokens = count(chunk_tokens, field="chunk_tokens", minimum=0)
    if chunk_overlap is not None:
        request.chunk_overlap = count(chunk_overlap, field="chunk_overlap", minimum=0)
    return request


def update_collection_request(
    collection: str, settings: pb.CollectionSettings
) -> pb.UpdateCollectionRequest:
    """Return a request to change a collection's settings.

    Raises:
        InvalidArgument: the name can't be sent, or no setting is given.
    """
    if settings == pb.CollectionSettings():
        raise InvalidArgument(
            "no setting to change: give language, index_type or target_recall", field="settings"
        )
    return pb.UpdateCollectionRequest(collection=resource_name(collection), settings=settings)


def delete_collection_request(collection: str) -> pb.DeleteCollectionRequest:
    """Return a request to delete a collection.

    Raises:
        InvalidArgument: the name can't be sent.
    """
    return pb.DeleteCollectionRequest(collection=resource_name(collection))


def settings_message(
    language: str, index_type: str, target_recall: float | None
) -> pb.CollectionSettings:
    """Return a collection's settings; empty texts and None are unset.

    Raises:
        InvalidArgument: a value can't be sent.
    """
    recall = number(target_recall, field="target_recall")
    if recall == 0.0:  # means unset on the wire
        raise InvalidArgument("target_recall is 0; it must be above 0", field="target_recall")
    return pb.CollectionSettings(
        language=sendable(language, field="language"),
        index_type=sendable(index_type, field="index_type"),
        target_recall=recall or 0.0,
    )
