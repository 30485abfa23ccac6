"""Passages as the client gives them: the same record that a search gives in the same process."""

from google.protobuf.json_format import MessageToDict

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
    """Take a passage over; its name is the full resource name, and its score NaN without one."""
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
    )


def metadata_from(message: document_pb2.Document | document_pb2.DocumentSummary) -> Metadata:
    """Metadata with its types; as texts from a server that does not send types."""
    if message.HasField("typed_metadata"):
        return {
            name: from_doubles(MessageToDict(value))
            for name, value in message.typed_metadata.fields.items()
        }
    return dict(message.metadata)


def _scores_from(message: document_pb2.Passage) -> StageScores | None:
    """How it came to its score; None without one, or with one of a kind that is not known here."""
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
