"""Text → token ids and character offsets, saying whenever something was cut off.

Wraps a model's ``tokenizer.json`` (the Rust ``tokenizers`` library). The truncation and padding
that such files switch on are switched off: the length limit here is the model's own.
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
from retrieval.errors import CheckpointError

MAX_TOKENIZER_BYTES = 128 << 20
MAX_TEXT_CHARS = 1 << 20
"""A text is cut here before it is tokenised, to bound memory; it then counts as truncated."""

_MAX_KNOWN_CHARS: Final = 8 << 20
"""Characters of the words whose tokens are remembered, and of their parts."""

_NO_SPACE: Final = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
"""White space to Python, but control characters that BERT's tokenizer drops."""

_PART: Final = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")
"""What BERT's tokenizer makes of a word in ASCII before it looks parts up."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text, ready for the model."""

    ids: list[int]
    """Token ids with special tokens, at most the model's maximum."""
    truncated: bool
    """Whether the text had more tokens than fit."""


@dataclass(frozen=True, slots=True)
class PairTokens:
    """Two texts as one sequence, ready for a cross-encoder."""

    ids: list[int]
    """Token ids with special tokens, at most the model's maximum."""
    type_ids: list[int]
    """Which text each token is of, as the model counts them; of the same length."""
    truncated: bool
    """Whether one of them had more tokens than fit."""


class Tokenizer:
    """A model's tokenizer with its length limit."""

    def __init__(
        self, tokenizer: FastTokenizer, *, max_tokens: int, eos_id: int | None = None
    ) -> None:
        """Wrap a loaded tokenizer.

        Args:
            tokenizer: changed in place: truncation and padding are switched off.
            max_tokens: most tokens of one text, special tokens included.
            eos_id: token to put after every text where the tokenizer itself does not.

        Raises:
            CheckpointError: ``max_tokens`` leaves no room beside the special tokens.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._suffix: list[int] = []
        # Two occurrences of one word: whatever surrounds them is the special tokens' template.
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
            max_tokens: most tokens of one text, special tokens included.
            add_eos: text of the token to put after every text; empty = none.

        Raises:
            CheckpointError: missing, too large or not a tokenizer, or it has no such token.
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
        """Special tokens that every text gets."""
        return self._leading + self._trailing + len(self._suffix)

    @property
    def room(self) -> int:
        """Most tokens of one text, special tokens not counted."""
        return self.max_tokens - self.special_count

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Texts → token ids with special tokens; the special tokens survive truncation.

        Args:
            texts: any length; the empty text gives the special tokens alone.

        Returns:
            one ``Tokens`` a text.
        """
        refuse_one_text(texts)
        cut = [text[:MAX_TEXT_CHARS] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(cut)
        return [
            self._limit(encoding, shortened=len(text) > MAX_TEXT_CHARS)
            for encoding, text in zip(encodings, texts, strict=True)
        ]

    def encode_pairs(self, first: str, seconds: Sequence[str]) -> list[PairTokens]:
        """One text with each of others → token ids with special tokens, which survive truncation.

        The second text is cut where both are too long; the first to half of the maximum at most.

        Args:
            first: such as a query.
            seconds: such as passages.
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
        """Tokens of each text, special tokens not counted and nothing cut off."""
        refuse_one_text(texts)
        if self._words and _plainly_spaced("".join(texts)):
            return self._words.count(texts)
        return _count(self._tokenizer, texts)

    def adds_up(self, text: str) -> bool:
        """Whether a text has as many tokens as its pieces together, if cut beside white space."""
        return self._words is not None and _plainly_spaced(text)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Character offsets (start, end) of each token, special tokens left out."""
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
    """Counts tokens word by word, and remembers how many each word has.

    Most words of a text have been seen before, and to look one up takes a hundredth of the time
    that it takes to tokenise it. New ones are counted by their parts, where it is plain what these
    are: the tokenizer cuts at every mark of punctuation, and of ``(word),`` only ``word`` can be
    new to it. There are far fewer parts than words, so they are remembered apart, and for longer.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._added = re.compile("|".join(map(re.escape, added)) or "$^", re.IGNORECASE)
        self._words = _Memory(self._count_parts)
        self._parts = _Memory(self._count_whole)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; any thread may call this."""
        tokens_of = self._words.__getitem__
        return [sum(map(tokens_of, text.split())) for text in texts]

    def _count_parts(self, word: str) -> int:
        if word.isascii() and word.isprintable() and not self._added.search(word):
            return sum(map(self._parts.__getitem__, _PART.findall(word)))
        return self._count_whole(word)

    def _count_whole(self, text: str) -> int:
        return _count(self._tokenizer, [text])[0]


class _Memory(dict[str, int]):
    """Texts and their tokens, counted where they are asked for first.

    Begins anew when the texts have too many characters in all.
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
    """Whether white space to Python is white space to BERT's tokenizer, too."""
    return not any(character in text for character in _NO_SPACE)


def _count(tokenizer: FastTokenizer, texts: Sequence[str]) -> list[int]:
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [len(encoding) for encoding in encodings]


def _splits_at_spaces(tokenizer: FastTokenizer) -> bool:
    """Whether a text's tokens are always those of its words: known of BERT's tokenizer only."""
    bert = isinstance(tokenizer.normalizer, BertNormalizer) and isinstance(
        tokenizer.pre_tokenizer, BertPreTokenizer
    )
    added = tokenizer.get_added_tokens_decoder().values()
    return bert and not any(len(token.content.split()) > 1 for token in added)
