"""A tiny but whole model folder: a golden GTE checkpoint with a tokenizer that fits it."""

import shutil
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


def write_tokenizer(path: Path) -> None:
    """WordPiece over single characters, with [CLS] and [SEP]; truncation and padding at 8 tokens.

    The hub's files switch truncation and padding on like this; the loader must switch them off.
    """
    characters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters, *(f"##{c}" for c in characters)]
    words.append("[MASK]")
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
    """Fill ``folder`` with a model that ``Encoder.load`` takes; 64 dimensions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / checkpoint / name, folder / name)
    write_tokenizer(folder / "tokenizer.json")
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
