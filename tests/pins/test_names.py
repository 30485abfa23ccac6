"""Names that other people's programs import."""

import inspect
from importlib import import_module

import pytest

import retrieval.client
from retrieval.client import AsyncRetrievalClient, RetrievalClient
from retrieval.client.writing.documents import FileOptions, PutOptions
from retrieval.domain.search_options import SearchOptions
from retrieval.encoder import Encoder

PUBLIC = {
    "retrieval": "__version__",
    "retrieval.client": "DEFAULT_TARGET DEFAULT_TIMEOUT AsyncPassageStream AsyncRetrievalClient "
    "CollectionInfo DocumentInfo Embeddings ModelInfo PassageContext PassageStream QueryLike "
    "RetrievalClient SearchResults SearchTimings ServerInfo ServerLimits Tls PUT_TIMEOUT "
    "AsyncPutStream DeleteResult DeleteWhereResult Put PutDocument PutItem PutOutcome PutPassage "
    "PutProgress PutResult PutStream RerankResults RerankedText SkippedPart "
    "DocumentCounts F FieldInfo FieldValue SkippedFile FilterExpression FilterLike FilterValue "
    "filter_from_dict",
    "retrieval.encoder": "Encoder",
    "retrieval.errors": "RetrievalError UserError InvalidArgument SourceError ModelNotFound "
    "CheckpointError NotAnIndex IndexVersionError NoLexicalIndex NoReranker ModelMismatch "
    "IndexLocked ClientClosed AddressInUse NotFound Unauthenticated PermissionDenied "
    "StaleGeneration IndexDamaged StorageError NotServing Overloaded RateLimited DeadlinePassed "
    "TooSlow AnswerTooLarge ServiceError ServiceUnavailable AlreadyExists Conflict ForeignRoot "
    "UnreadableDocument DiskFull QuotaExceeded UnexpectedModel UnknownModel StorageRefused",
    "retrieval.v1.search_service_pb2_grpc": "SearchServiceStub",
    "retrieval.v1.index_service_pb2_grpc": "IndexServiceStub",
    "retrieval.v1.embedding_service_pb2_grpc": "EmbeddingServiceStub",
    "retrieval.v1.rerank_service_pb2_grpc": "RerankServiceStub",
    "retrieval.indexer_v1.ingest_service_pb2_grpc": "IngestServiceStub",
}

METHODS = {
    "__init__": "target timeout tls token",
    "close": "",
    "search": "query k page_token options",
    "search_batch": "queries k options",
    "stream_search": "query limit options",
    "embed": "texts kind collection model dimensions",
    "embed_detailed": "texts kind collection model dimensions",
    "count_tokens": "texts collection model",
    "models": "",
    "rerank": "query texts top_n",
    "collection": "collection",
    "collections": "",
    "documents": "collection filter",
    "count_documents": "collection filter",
    "skipped_files": "collection",
    "fields": "collection",
    "field_values": "field containing limit collection",
    "document": "name with_text uri collection chars lines",
    "passage": "name before after",
    "reload": "collection",
    "server_info": "",
    "health": "collection",
    "with_options": "timeout token metadata",
    "put": "uri collection wait timeout options",
    "put_file": "path uri root collection wait timeout options",
    "put_many": "items root collection wait on_progress timeout",
    "delete": "uri if_sha256 missing_ok wait collection",
    "delete_where": "filter prefix dry_run wait collection timeout",
    "create_collection": "collection model chunk_tokens chunk_overlap language index_type "
    "target_recall",
    "update_collection": "collection language index_type target_recall",
    "delete_collection": "collection missing_ok",
}
"""Method of both clients: its parameters; ``options`` stands for the keywords below."""

PUT_OPTIONS = (
    "text data passages file_name media_type title metadata language modified if_absent if_sha256"
)

OPTIONS = (
    "collection mode fusion dense_weight min_score filter exact section_chars group_by_document "
    "group_size collapse mmr rerank_top context_before context_after highlight omit_text "
    "omit_metadata include_vectors"
)

FIELDS = {
    "CollectionInfo": "name generation model chunk_tokens chunk_overlap document_count "
    "passage_count token_count vector_count created_at updated_at index_id",
    "DocumentInfo": "name uri title metadata format encoding size_bytes modified_at char_count "
    "passage_count text media_type sha256 "
    "char_start char_end line_start line_end line_count",
    "Embeddings": "vectors token_counts truncated model_fingerprint",
    "ModelInfo": "name revision fingerprint dimension max_tokens dtype",
    "PassageContext": "passage before after generation",
    "DeleteResult": "uris generation",
    "DeleteWhereResult": "document_count uris foreign_count generation",
    "Put": f"uri {PUT_OPTIONS.replace('passages', 'passages path')}",
    "PutDocument": "name uri change title format encoding passage_count truncated_count unread "
    "sha256",
    "PutOutcome": "item uri result error",
    "PutPassage": "text heading_path page",
    "PutProgress": "created updated unchanged skipped failed passages tokens size waiting "
    "reconnects",
    "PutResult": "documents skipped generation token_count",
    "SearchResults": "passages next_page_token generation model_fingerprint query_token_count "
    "query_truncated timings mode rerank_truncated_count warnings",
    "SearchTimings": "embed search fetch total rerank",
    "SkippedPart": "uri reason detail",
    "ServerInfo": "version started_at limits writable",
    "ServerLimits": "max_page_size max_offset max_stream_limit max_query_chars max_batch_size "
    "max_text_chars max_neighbours max_message_bytes max_batch_passages max_section_chars "
    "max_group_size max_rerank_top max_context max_document_bytes max_range_chars",
    "Tls": "ca cert key",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    there = import_module(module)
    assert not [name for name in PUBLIC[module].split() if not hasattr(there, name)]


@pytest.mark.parametrize("client", [RetrievalClient, AsyncRetrievalClient])
@pytest.mark.parametrize("method", METHODS)
def test_methods_of_the_clients(client: type, method: str) -> None:
    names = list(inspect.signature(getattr(client, method)).parameters)
    assert names[1:] == METHODS[method].split()


def test_options_of_a_search() -> None:
    assert set(OPTIONS.split()) <= SearchOptions.__optional_keys__


def test_options_of_a_put() -> None:
    contents = {"text", "data", "passages"}
    assert set(PUT_OPTIONS.split()) <= PutOptions.__optional_keys__
    assert set(PUT_OPTIONS.split()) - contents <= FileOptions.__optional_keys__


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_the_answers(name: str) -> None:
    slots = getattr(retrieval.client, name).__dataclass_fields__
    assert list(slots)[: len(FIELDS[name].split())] == FIELDS[name].split()


def test_the_encoder() -> None:
    assert set(inspect.signature(Encoder.load).parameters) >= {"name", "device", "dtype"}
    assert {"texts", "kind"} <= set(inspect.signature(Encoder.encode).parameters)
