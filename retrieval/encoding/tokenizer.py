"""Tokenizer of a model: token ids, counts and character offsets of texts; truncation is reported.

It wraps a model's ``tokenizer.json`` (the Rust library ``tokenizers``). The truncation and padding
that the file may switch on are switched off, because the length limit here is the model's own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from retrieval.domain.arguments import refuse_one_text
from retrieval.encoding.word_pieces import word_pieces_of
from retrieval.errors import CheckpointError

MAX_TOKENIZER_BYTES = 128 << 20
"""Largest file that is read; multilingual vocabularies have up to 20 MB."""
MAX_TEXT_CHARS = 1 << 20
"""Characters after which a text is cut before it is tokenised, to bound memory. It then counts as
truncated."""

_MAX_KNOWN_CHARS: Final = 8 << 20
"""Characters of the words whose counts are cached, and of their parts: a million words each."""

_NO_SPACE: Final = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
"""White space in Python, but control characters that BERT's tokenizer drops."""

_PART: Final = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")
"""The parts into which BERT's tokenizer splits an ASCII word before it looks them up."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one text, ready for the model."""

    ids: list[int]
    """Token ids with special tokens, at most the model's maximum."""
    truncated: bool
    """Whether the text had more tokens than fit."""


@dataclass(frozen=True, slots=True)
class PairTokens:
    """Tokens of two texts as one sequence, ready for a cross-encoder."""

    ids: list[int]
    """Token ids with special tokens, at most the model's maximum."""
    type_ids: list[int]
    """The text that each token belongs to, as the model numbers them; as long as ``ids``."""
    truncated: bool
    """Whether the texts had more tokens than fit."""


class Tokenizer:
    """A model's tokenizer with its length limit."""

    def __init__(
        self, tokenizer: FastTokenizer, *, max_tokens: int, eos_id: int | None = None
    ) -> None:
        """Wrap a loaded tokenizer.

        Args:
            tokenizer: its truncation and padding are switched off, in place.
            max_tokens: maximum tokens of one text, special tokens included.
            eos_id: token to append to every text if the tokenizer doesn't.

        Raises:
            CheckpointError: ``max_tokens`` leaves no room beside the special tokens.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._suffix: list[int] = []
        # In the tokens of a text, those before and after its words are the special tokens.
        mask = tokenizer.encode("a a").special_tokens_mask
        self._leading = mask.index(0) if 0 in mask else len(mask)
        self._trailing = mask[::-1].index(0) if 0 in mask else 0
        if eos_id is not None and tokenizer.encode("a a").ids[-1:] != [eos_id]:
            self._suffix = [eos_id]
        self._words = _WordCounts(tokenizer) if _splits_at_spaces(tokenizer) else None
        self.max_tokens = max_tokens
        if self.room < 1:
            raise CheckpointError(f"a maximum of {max_tokens} tokens leaves no room for a text")

    @classmethod
    def from_folder(cls, folder: Path, *, max_tokens: int, add_eos: str = "") -> "Tokenizer":
        """Read ``folder/tokenizer.json``.

        Args:
            folder: the model's folder.
            max_tokens: maximum tokens of one text, special tokens included.
            add_eos: token to append to every text; empty for none.

        Raises:
            CheckpointError: the file is missing, too large or not a tokenizer, or lacks the token.
        """
        path = folder / "tokenizer.json"
        try:
            if path.stat().st_size > MAX_TOKENIZER_BYTES:
                raise CheckpointError(f"{path} is larger than {MAX_TOKENIZER_BYTES} bytes")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"can't read {path}: {error}") from error
        try:
            tokenizer = FastTokenizer.from_str(text)
        except Exception as error:
            raise CheckpointError(f"{path} is not a usable tokenizer: {error}") from error
        eos_id = tokenizer.token_to_id(add_eos) if add_eos else None
        if add_eos and eos_id is None:
            raise CheckpointError(f"{path} has no token {add_eos!r}")
        return cls(tokenizer, max_tokens=max_tokens, eos_id=eos_id)

    @property
    def special_count(self) -> int:
        """Number of special tokens of a text."""
        return self._leading + self._trailing + len(self._suffix)

    @property
    def room(self) -> int:
        """Maximum tokens of one text, without special tokens."""
        return self.max_tokens - self.special_count

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text; truncation keeps the special tokens.

        Args:
            texts: of any length; an empty text has only special tokens.

        Returns:
            one ``Tokens`` for each text.
        """
        refuse_one_text(texts)
        cut = [text[:MAX_TEXT_CHARS] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(cut)
        return [
            self._limit(encoding, shortened=len(text) > MAX_TEXT_CHARS)
            for encoding, text in zip(encodings, texts, strict=True)
        ]

    def encode_pairs(self, first: str, seconds: Sequence[str]) -> list[PairTokens]:
        """Return the tokens of pairs of texts; truncation keeps the special tokens.

        If a pair is too long, the first text keeps up to half of the room, or more if the second is
        short; the second text keeps the rest.

        Args:
            first: first text of each pair, such as a query.
            seconds: second texts, such as passages.

        Returns:
            one ``PairTokens`` for each second text.
        """
        refuse_one_text(seconds)
        head = first[:MAX_TEXT_CHARS]
        pairs = [(head, second[:MAX_TEXT_CHARS]) for second in seconds]
        shortened = [
            len(head) < len(first) or len(b) < len(s)
            for (_, b), s in zip(pairs, seconds, strict=True)
        ]
        encodings = self._tokenizer.encode_batch(pairs)
        return [
            self._limit_pair(encoding, shortened=cut)
            for encoding, cut in zip(encodings, shortened, strict=True)
        ]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special tokens and truncation."""
        refuse_one_text(texts)
        if self._words and _plainly_spaced("".join(texts)):
            return self._words.count(texts)
        return _count(self._tokenizer, texts)

    def adds_up(self, text: str) -> bool:
        """Return whether pieces of the text, cut beside white space, add up to its tokens."""
        return self._words is not None and _plainly_spaced(text)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character offsets (start, end) of each token, without special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).offsets)

    def _limit_pair(self, encoding: Encoding, *, shortened: bool) -> PairTokens:
        parts = encoding.sequence_ids  # None for special tokens
        first = [at for at, part in enumerate(parts) if part == 0]
        second = [at for at, part in enumerate(parts) if part == 1]
        room = self.max_tokens - (len(parts) - len(first) - len(second))
        kept_first = first[: max(room // 2, room - len(second))]
        kept_second = second[: room - len(kept_first)]
        truncated = len(kept_first) < len(first) or len(kept_second) < len(second)
        ids, types = encoding.ids, encoding.type_ids
        if truncated:
            dropped = {*first[len(kept_first) :], *second[len(kept_second) :]}
            ids = [token for at, token in enumerate(ids) if at not in dropped]
            types = [kind for at, kind in enumerate(types) if at not in dropped]
        return PairTokens(ids, types, truncated or shortened)

    def _limit(self, encoding: Encoding, *, shortened: bool) -> Tokens:
        ids = encoding.ids
        end = len(ids) - self._trailing
        truncated = end - self._leading > self.room
        if truncated:
            ids = ids[: self._leading + self.room] + ids[end:]
        return Tokens(ids + self._suffix, truncated or shortened)


class _WordCounts:
    """Counts tokens word by word, with a cache; thread-safe.

    Most words of a text have occurred before, and a look-up takes a hundredth of the time of
    tokenising. A new word is counted by its parts if these are certain: the tokenizer splits at
    every punctuation mark, so of ``(word),`` only ``word`` can be new. There are far fewer parts
    than words, so they have a cache of their own, which lasts longer.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._added = re.compile("|".join(map(re.escape, added)) or "$^", re.IGNORECASE)
        self._words = _Memory(self._count_parts)
        self._parts = _Memory(self._count_part)
        self._pieces = word_pieces_of(tokenizer)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        tokens_of = self._words.__getitem__
        return [sum(map(tokens_of, text.split())) for text in texts]

    def _count_parts(self, word: str) -> int:
        if word.isascii() and word.isprintable() and not self._added.search(word):
            return sum(map(self._parts.__getitem__, _PART.findall(word)))
        return self._count_whole(word)

    def _count_part(self, part: str) -> int:
        if self._pieces and part.isalnum():
            return self._pieces.count(part)
        return self._count_whole(part)

    def _count_whole(self, text: str) -> int:
        return _count(self._tokenizer, [text])[0]


class _Memory(dict[str, int]):
    """Cache of token counts, which counts a text at its first look-up.

    It is emptied when its texts have too many characters in total.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        super().__init__()
        self._count = count
        self._chars = 0

    def __missing__(self, text: str) -> int:
        self._chars += len(text)
        if self._chars > _MAX_KNOWN_CHARS:
            self.clear()
            self._chars = len(text)
        tokens = self[text] = self._count(text)
        return tokens


def _plainly_spaced(text: str) -> bool:
    """Return whether Python and BERT's tokenizer agree on the white space of a text."""
    return not any(character in text for character in _NO_SPACE)


def _count(tokenizer: FastTokenizer, texts: Sequence[str]) -> list[int]:
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [len(encoding) for encoding in encodings]


def _splits_at_spaces(tokenizer: FastTokenizer) -> bool:
    """Return whether a text's tokens are always those of its words; true of BERT's tokenizer."""
    bert = isinstance(tokenizer.normalizer, BertNormalizer) and isinstance(
        tokenizer.pre_tokenizer, BertPreTokenizer
    )
    added = tokenizer.get_added_tokens_decoder().values()
    return bert and not any(len(token.content.split()) > 1 for token in added)
