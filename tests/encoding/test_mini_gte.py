"""The encoder that comes with the package: found by name, read by others, good enough to search."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from retrieval.encoding.encoder import Encoder
from retrieval.encoding.model_cards import MODEL_CARDS, OWN_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.errors import ModelNotFound
from tests.commands.forking import run_forked

MOST_BYTES = 55_000_000
TEXTS = [
    "How do bees tell each other where nectar is?",
    "A forager that has found flowers dances on the comb; the angle to the vertical is the angle "
    "to the sun, and the longer the run, the farther the way.",
    "The committee approved the budget for the coming year after a long debate.",
    "def area(radius): return math.pi * radius ** 2",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(OWN_MODEL, device="cpu")


def test_it_is_found_by_name_with_no_network_and_no_cache(tmp_path: Path) -> None:
    code = (
        "from retrieval.encoding.encoder import Encoder\n"
        f"encoder = Encoder.load({OWN_MODEL!r}, device='cpu')\n"
        "print(encoder.identity.source, encoder.dim, encoder.max_tokens)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = run_forked([sys.executable, "-c", code], env=environment)
    assert result.returncode == 0, result.stderr
    card = MODEL_CARDS[OWN_MODEL]
    assert result.stdout.split() == ["package", str(card.dim), str(card.max_tokens)]
    assert not list(tmp_path.iterdir())


def test_it_has_no_revisions() -> None:
    with pytest.raises(ModelNotFound, match="leave @v2 out"):
        find_model(f"{OWN_MODEL}@v2")


def test_its_files_are_few_small_and_safe() -> None:
    folder = find_model(OWN_MODEL).path
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum((folder / name).stat().st_size for name in files) < MOST_BYTES
    assert "license: apache-2.0" in (folder / "README.md").read_text().split("---")[1]
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["dtype"]) == ("gte", "float16")
    assert "auto_map" not in config


def test_its_card_says_what_it_is(encoder: Encoder) -> None:
    card = MODEL_CARDS[OWN_MODEL]
    native = AutoModel.from_pretrained(encoder.folder)
    weights = sum(weight.numel() for weight in native.parameters())
    assert card.parameters == pytest.approx(weights, rel=0.02)
    assert (encoder.dim, encoder.max_tokens) == (card.dim, card.max_tokens)


def test_others_read_the_same_vectors_from_it(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    ours = encoder.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    transformer = SentenceTransformer(str(encoder.folder), device="cpu").float()
    np.testing.assert_allclose(ours, transformer.encode(TEXTS), atol=1e-5)
    native, report = AutoModel.from_pretrained(
        encoder.folder, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = encoder.tokenizer.encode(TEXTS[1:2])[0].ids
    with torch.no_grad():
        first = native.eval()(torch.tensor([ids])).last_hidden_state[0, 0]
    np.testing.assert_allclose(ours[1], first / first.norm(), atol=1e-5)


@pytest.mark.parametrize("sentences", [100, pytest.param(700, marks=pytest.mark.slow)])
def test_it_reads_long_texts_to_their_end(encoder: Encoder, sentences: int) -> None:
    filler = "The minutes of the meeting were read and approved. " * sentences
    texts = [filler, filler + "The glacier retreated by eleven metres.", "Glaciers are melting."]
    embedded = encoder.embed(texts)
    assert not any(embedded.truncated)
    assert embedded.token_counts[0] > 10 * sentences
    plain, with_end, query = embedded.vectors
    assert query @ with_end > query @ plain


def test_it_takes_8192_tokens(encoder: Encoder) -> None:
    words = "committee " * 8190
    assert encoder.tokenizer.encode([words])[0].truncated is False
    assert encoder.tokenizer.encode([words + "budget"])[0].truncated is True


def test_a_question_finds_its_answer(encoder: Encoder) -> None:
    question, *passages = encoder.encode(TEXTS)
    assert np.argmax(np.stack(passages) @ question) == 0


def test_it_is_close_to_its_teacher(encoder: Encoder, minilm_folder: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    pages = [page.read_text() for page in sorted(docs.glob("*.md"))]
    passages = [page[at : at + 600] for page in pages for at in range(0, len(page), 24_000)]
    teacher = Encoder.load(str(minilm_folder), device="cpu")
    cosines = (encoder.encode(passages) * teacher.encode(passages)).sum(axis=1)
    assert cosines.mean() > 0.85
