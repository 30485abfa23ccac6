"""Passages and their metadata from messages, as records that a search in process gives, too."""

from array import array

from google.protobuf.struct_pb2 import Value

from retrieval.client.results.times import to_datetime
from retrieval.domain.metadata import Metadata, from_doubles
from retrieval.domain.passages import Highlights, Passage, ScoreKind, SectionText, Span, StageScores
from retrieval.domain.resource_names import parse_passage
from retrieval.v1 import document_pb2

_SCORE_KINDS: dict[int, ScoreKind] = {
    document_pb2.SCORE_KIND_COSINE: "cosine",
    document_pb2.SCORE_KIND_BM25: "bm25",
    document_pb2.SCORE_KIND_WEIGHTED: "weighted",
    document_pb2.SCORE_KIND_RRF: "rrf",
    document_pb2.SCORE_KIND_RERANK: "rerank",
}


def passage_from(message: document_pb2.Passage) -> Passage:
    """Return the passage of a message, named by its full resource name; NaN if it has no score."""
    name = parse_passage(message.name, field="name")
    scores = _scores_from(message)
    return Passage(
        name=message.name,
        document_id=name.document_id,
        uri=message.document.uri,
        title=message.document.title,
        ordinal=name.ordinal,
        char_start=message.char_start,
        char_end=message.char_end,
        line_start=message.line_start,
        line_end=message.line_end,
        heading_path=tuple(message.heading_path),
        text=message.text,
        token_count=message.token_count,
        metadata=metadata_from(message.document),
        score=message.score if scores else float("nan"),
        page_start=message.page_start,
        page_end=message.page_end,
        scores=scores,
        similar=tuple(message.similar),
        similar_count=message.similar_count,
        before=tuple(map(passage_from, message.context_before)),
        after=tuple(map(passage_from, message.context_after)),
        highlights=_highlights_from(message.highlights) if message.HasField("highlights") else None,
        section=_section_from(message.section) if message.HasField("section") else None,
        table_header=message.table_header,
        omitted=tuple(Span(one.start, one.end) for one in message.omitted),
        format=message.document.format,
        media_type=message.document.media_type,
        size_bytes=message.document.size_bytes,
        modified_at=to_datetime(message.document.modify_time)
        if message.document.HasField("modify_time")
        else None,
        vector=array("f", message.vector.values) if message.HasField("vector") else None,
    )


def metadata_from(message: document_pb2.Document | document_pb2.DocumentSummary) -> Metadata:
    """Return metadata with its types, or as texts if the server does not send types."""
    if message.HasField("typed_metadata"):
        return {
            name: from_doubles(_plain(value))
            for name, value in message.typed_metadata.fields.items()
        }
    return dict(message.metadata)


def _plain(value: Value) -> object:
    """Return a value of JSON in Python's types; in half the time that ``MessageToDict`` takes."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(part) for name, part in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(part) for part in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def _scores_from(message: document_pb2.Passage) -> StageScores | None:
    """Return a passage's scores by stage; None if it has none, or of a kind unknown here."""
    kind = _SCORE_KINDS.get(message.score_kind)
    if kind is None:
        return None
    stages = message.stage_scores
    return StageScores(
        kind,
        dense=stages.dense if stages.HasField("dense") else None,
        lexical=stages.lexical if stages.HasField("lexical") else None,
        dense_rank=stages.dense_rank or None,
        lexical_rank=stages.lexical_rank or None,
        fused=stages.fused if stages.HasField("fused") else None,
        rerank=stages.rerank if stages.HasField("rerank") else None,
    )


def _highlights_from(message: document_pb2.Highlights) -> Highlights:
    terms = tuple(Span(term.start, term.end) for term in message.terms)
    best = message.sentence if message.HasField("sentence") else None
    return Highlights(terms, Span(best.start, best.end) if best else None)


def _section_from(message: document_pb2.Section) -> SectionText:
    return SectionText(message.text, message.char_start, message.char_end, message.complete)
