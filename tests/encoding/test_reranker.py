"""Cross-encoders: pairs of texts as tokens, the core's head against transformers', search."""

import json
import shutil
from collections.abc import Sequence
from contextvars import copy_context
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer as FastTokenizer
from transformers import (
    BertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from retrieval.domain.deadline import abandoned
from retrieval.encoding.model_cards import RERANKERS
from retrieval.encoding.reranker import Reranker
from retrieval.encoding.tokenizer import PairTokens, Tokenizer
from retrieval.errors import CheckpointError, DeadlinePassed, InvalidArgument, NoReranker
from retrieval.gte import load_model, pack
from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import Reader, open_reader
from tests.store.test_store import key, new_writer, staged, unit_vectors
from tests.tiny_model import GOLDEN, TINY_BERT, make_tiny_model, make_tiny_reranker

QUERY = "which boat?"
PASSAGES = ["the ferry", "bread and butter", "a boat, long and narrow", "x", "ferry boats " * 3]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_reranker(tmp_path_factory.mktemp("bert"))


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities / (1 - probabilities))


def test_scores_are_those_of_transformers(bert: Path) -> None:
    reranker = Reranker.load(str(bert))
    scores = reranker.score(QUERY, PASSAGES)
    assert scores.truncated == 0
    oracle = BertForSequenceClassification.from_pretrained(bert).eval()
    tokenizer = FastTokenizer.from_file(str(bert / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    expected = []
    with torch.inference_mode():
        for passage in PASSAGES:
            pair = tokenizer.encode(QUERY, passage)
            assert set(pair.type_ids) == {0, 1}
            output = oracle(torch.tensor([pair.ids]), token_type_ids=torch.tensor([pair.type_ids]))
            expected.append(output.logits.item())
    np.testing.assert_allclose(logits_of(scores.probabilities), expected, atol=2e-5)


def test_a_passage_does_not_depend_on_its_neighbours(bert: Path) -> None:
    reranker = Reranker.load(str(bert))
    together = reranker.score(QUERY, PASSAGES * 20).probabilities
    alone = [reranker.score(QUERY, [passage]).probabilities[0] for passage in PASSAGES]
    np.testing.assert_allclose(together, alone * 20, atol=1e-6)
    assert len(reranker.score(QUERY, []).probabilities) == 0


def test_xlm_roberta_heads_load(tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = XLMRobertaConfig(
        **{**TINY_BERT, "max_position_embeddings": 66},
        num_labels=1,
        type_vocab_size=1,
        pad_token_id=1,
    )
    oracle = XLMRobertaForSequenceClassification(config).eval()
    oracle.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.head == "sequence_classification"
    rows = [[2, 17, 40, 3], [2, 9, 3]]
    with torch.inference_mode():
        found = model.classify(pack(rows))
        expected = torch.cat([oracle(torch.tensor([row])).logits for row in rows])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_gte_heads_are_golden() -> None:
    folder = GOLDEN / "reranker_tt1"
    inputs = json.loads((folder / "inputs.json").read_text())
    model = load_model(folder)
    with torch.inference_mode():
        found = model.classify(pack(inputs["input_ids"]))
    expected = load_file(folder / "expected.safetensors")["logits"]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_what_is_too_long_is_cut_and_counted(bert: Path) -> None:
    reranker = Reranker.load(str(bert))
    assert reranker.max_tokens == 64
    scores = reranker.score("boat", ["x" * 30, "y" * 80, "z " * 5000])
    assert scores.truncated == 2
    tokenizer = Tokenizer.from_folder(bert, max_tokens=20)
    for query, passage in (("a" * 50, "b" * 50), ("a" * 50, "b"), ("a", "b" * 50), ("a" * 50, "")):
        (pair,) = tokenizer.encode_pairs(query, [passage])
        assert len(pair.ids) == len(pair.type_ids) <= 20
        assert pair.truncated
        assert pair.ids[0] == 2
        assert pair.ids[-1] == 3
        assert pair.ids.count(3) == 2
    (pair,) = tokenizer.encode_pairs("a" * 50, ["b" * 50])
    assert pair.type_ids.count(0) == 1 + 8 + 1  # half of the room is the query's
    (whole,) = tokenizer.encode_pairs("abc", ["de"])
    assert not whole.truncated


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a cross-encoder"):
        Reranker.load(str(make_tiny_model(tmp_path / "embedder")))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    for name in ("tokenizer.json", "model.safetensors"):
        shutil.copyfile(tmp_path / "embedder" / name, tmp_path / name)
    with pytest.raises(CheckpointError, match="cross-encoder must be one of"):
        Reranker.load(str(tmp_path))


def test_known_names() -> None:
    assert all(card.hub_id.count("/") == 1 for card in RERANKERS.values())
    assert all(name == name.casefold() for name in RERANKERS)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("index")
    with new_writer(folder) as writer, writer.commit() as commit:
        texts = [f"{passage} {number}" for number in range(6) for passage in PASSAGES]
        ids = commit.add_vectors(
            [key(text) for text in texts], unit_vectors(len(texts)), [False] * len(texts)
        )
        for start in range(0, len(texts), 5):
            end = start + 5
            commit.put_document(staged(f"d/{start:03}", texts[start:end], ids[start:end]))
    return open_reader(folder)


def test_the_best_are_put_in_the_models_order(reader: Reader, bert: Path) -> None:
    reranker = Reranker.load(str(bert))
    searcher = Searcher(reader, reranker)
    embedded = EmbeddedText(unit_vectors(1, 9)[0], 3, truncated=False)
    first = searcher.search(Query(text=QUERY, k=12), embedded)
    result = searcher.search(Query(text=QUERY, k=20, rerank_top=12), embedded)
    assert (result.score_kind, result.mode, result.more) == ("rerank", "hybrid", False)
    assert sorted(p.name for p in result.passages) == sorted(p.name for p in first.passages)
    expected = reranker.score(QUERY, [p.text for p in result.passages]).probabilities
    assert [p.score for p in result.passages] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [p.score for p in result.passages] == sorted(p.score for p in result.passages)[::-1]
    before = {p.name: p.scores for p in first.passages}
    for passage in result.passages:
        scores, old = passage.scores, before[passage.name]
        assert scores is not None
        assert old is not None
        assert (scores.kind, scores.rerank) == ("rerank", passage.score)
        assert (scores.dense, scores.lexical, scores.fused) == (old.dense, old.lexical, old.fused)
    assert 0 < result.timings.rerank_seconds <= result.timings.search_seconds
    paged = [
        passage.name
        for offset in range(0, 12, 5)
        for passage in searcher.search(
            Query(text=QUERY, k=5, offset=offset, rerank_top=12), embedded
        ).passages
    ]
    assert paged == [p.name for p in result.passages]
    grouped = searcher.search(
        Query(text=QUERY, mode="lexical", rerank_top=12, group_by_document=True, filter="path:0*")
    )
    assert len({p.uri for p in grouped.passages}) == len(grouped.passages) > 1


def test_reranking_that_can_not_be(reader: Reader, bert: Path) -> None:
    with pytest.raises(NoReranker, match="--reranker"):
        Searcher(reader).search(Query(text="x", mode="lexical", rerank_top=5))
    searcher = Searcher(reader, Reranker.load(str(bert)))
    for query in (
        Query(text="x", mode="lexical", rerank_top=201),
        Query(passage=(1, 1), rerank_top=5),
    ):
        with pytest.raises(InvalidArgument) as caught:
            searcher.search(query)
        assert caught.value.metadata["field"] == "rerank_top"
    nothing = searcher.search(Query(text="unheard", mode="lexical", rerank_top=5))
    assert nothing.passages == ()


def test_reranking_that_nobody_waits_for_stops(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = Reranker.load(bert)
    batches: list[int] = []
    run = reranker._logits

    def count(pairs: Sequence[PairTokens]) -> NDArray[np.float32]:
        batches.append(len(pairs))
        return run(pairs)

    monkeypatch.setattr(reranker, "_logits", count)
    monkeypatch.setattr(reranker, "_batch_tokens", 64)
    passages = ["the ferry leaves"] * 40
    context = copy_context()
    context.run(abandoned.set, lambda: len(batches) >= 2)
    with pytest.raises(DeadlinePassed):
        context.run(reranker.score, "ferry", passages)
    assert len(batches) == 2
    reranker.score("ferry", passages)
    assert len(batches) > 4, "outside a request, all are"
