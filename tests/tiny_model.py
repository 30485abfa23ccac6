"""Tiny but whole model folders: golden GTE checkpoints with a tokenizer that fits them."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

TINY_BERT = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}

GOLDEN = Path(__file__).parent / "golden"
DIM = 64
"""Length of the vectors of the golden checkpoints."""


def write_tokenizer(path: Path, known: Iterable[str] = ()) -> None:
    """Write a WordPiece over single characters and ``known`` words, with [CLS] and [SEP].

    It truncates and pads at 8 tokens, as the hub's files do; the loader must switch that off.
    """
    characters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters, *(f"##{c}" for c in characters)]
    words += ["[MASK]", *known]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(path))


def make_tiny_model(folder: Path, checkpoint: str = "plain_rope_tt0") -> Path:
    """Fill ``folder`` with a model that ``Encoder.load`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / checkpoint / name, folder / name)
    write_tokenizer(folder / "tokenizer.json")
    return folder


def make_word_model(folder: Path, texts: Iterable[str]) -> Path:
    """Fill ``folder`` with a model to which texts that share words are similar.

    Its tokens are the words of ``texts``, and its vector is the mean over them: the weights are
    random, but every word is the same vector wherever it stands.
    """
    make_tiny_model(folder)
    known = sorted(set(re.findall("[a-z]+", " ".join(texts).lower())))
    write_tokenizer(folder / "tokenizer.json", known)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256}))
    return folder


def make_tiny_reranker(folder: Path) -> Path:
    """Fill ``folder`` with a BERT cross-encoder: random weights, token types, 64 positions."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(5)
    model = BertForSequenceClassification(BertConfig(**TINY_BERT, num_labels=1))
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
