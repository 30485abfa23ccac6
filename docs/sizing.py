"""The arithmetic of the table of sizes in scale-out.md, which cog writes.

Each constant names where it was measured; ``tests/project/test_sizing.py`` looks it up there.
"""

import math
from dataclasses import dataclass
from typing import Final

DIM: Final = 384
"""Dimensions of mini-gte-en-v1 and of the measurements below."""
TOKENS: Final = 11_907_492 / 63_291
"""Tokens of a passage: those of 63,291 passages of documentation (benchmarks.md, Documents)."""
TEXT_BYTES: Final = 700
"""Text of a passage in English (operations.md, Disk and memory)."""
ROW_BYTES: Final = 300
"""What the database keeps beside the text: "a few hundred" bytes (operations.md)."""
WORD_BYTES: Final = 16e6 / 40_000
"""Words of a passage: 16 MB for 40,000 passages of 700 characters (operations.md)."""
CODE_BYTES: Final = 66
"""Approximate index in memory, by passage: ten million vectors (benchmarks.md, Store)."""
TABLE_CODE_BYTES: Final = 70
"""The same in Lance tables (decisions/0043-codes-in-lance.md)."""
EXACT_ROWS: Final = 50_000
"""Passages above which an index is approximate (indexing.md)."""
EMBED_CORE_SECONDS: Final = 37.7 * 2 / 1_643
"""Reading and embedding a passage with the default model: 1,643 passages in 37.7 s on two cores,
the slower round (benchmarks.md, Writing over the network)."""
INDEX_CORE_SECONDS: Final = 27.8 * 60 * 2 / 10e6
"""Making the approximate index, by passage: ten million in 27.8 minutes on two cores
(benchmarks.md, Store)."""
TABLE_INDEX_CORE_SECONDS: Final = 47.0
"""The same in Lance tables, for a million passages in 1,024 lists
(decisions/0043-codes-in-lance.md). Each vector is compared with the middles of all lists, of which
there are about as many as the square root of the number of vectors: the nearest power of two, up
to ``MAX_LISTS``."""
MAX_LISTS: Final = 8192
GPU_TOKENS: Final = (0.6e6, 2e6)
"""Tokens a second of one H200: an assumption, because no speed on a GPU is published yet."""
GPU_FROM: Final = 1_000_000
"""Passages from which on a GPU is worth its start."""

SIZES: Final = (10**5, 10**7, 10**9)


@dataclass(frozen=True, slots=True)
class Needs:
    """What an index of a number of passages needs."""

    passages: int

    @property
    def vector_bytes(self) -> int:
        """Size of the vectors, float32."""
        return 4 * DIM * self.passages

    @property
    def text_bytes(self) -> int:
        """Size of the texts and what belongs to them."""
        return (TEXT_BYTES + ROW_BYTES) * self.passages

    @property
    def word_bytes(self) -> float:
        """Size of the lexical index."""
        return WORD_BYTES * self.passages

    @property
    def code_bytes(self) -> int:
        """Size of the approximate index, which is in memory."""
        return CODE_BYTES * self.passages if self.passages > EXACT_ROWS else 0

    @property
    def disk_bytes(self) -> float:
        """Size of the whole index."""
        return self.vector_bytes + self.text_bytes + self.word_bytes + self.code_bytes

    @property
    def embed_core_hours(self) -> float:
        """Reading and embedding on CPUs."""
        return EMBED_CORE_SECONDS * self.passages / 3600

    @property
    def index_core_hours(self) -> float:
        """Making the approximate index."""
        return INDEX_CORE_SECONDS * self.passages / 3600

    @property
    def table_index_core_hours(self) -> float:
        """Making the approximate index in Lance tables."""
        if self.passages <= EXACT_ROWS:
            return 0.0
        lists = min(2 ** round(math.log2(self.passages**0.5)), MAX_LISTS)
        return TABLE_INDEX_CORE_SECONDS * self.passages / 1e6 * lists / 1024 / 3600

    @property
    def gpu_hours(self) -> tuple[float, float]:
        """Embedding on H200s, from and to."""
        hours = [TOKENS * self.passages / speed / 3600 for speed in reversed(GPU_TOKENS)]
        return hours[0], hours[1]


def table() -> str:
    """Return the needs at three sizes as a Markdown table."""
    some = [Needs(passages) for passages in SIZES]
    rows = [
        ("passages", [f"{one.passages:,}" for one in some]),
        ("vectors", [_bytes(one.vector_bytes) for one in some]),
        ("texts and rows", [_bytes(one.text_bytes) for one in some]),
        ("words", [_bytes(one.word_bytes) for one in some]),
        ("approximate index, in memory", [_bytes(one.code_bytes) for one in some]),
        ("whole index on disk", [_bytes(one.disk_bytes) for one in some]),
        ("reading and embedding, CPU", [_hours(one.embed_core_hours, "core") for one in some]),
        ("embedding, one H200 *", [_gpu_hours(one) for one in some]),
        ("making the index, folder", [_hours(one.index_core_hours, "core") for one in some]),
        (
            "making the index, Lance tables",
            [_hours(one.table_index_core_hours, "core") for one in some],
        ),
    ]
    (heading, first), *others = rows
    lines = [f"| {heading} | {' | '.join(first)} |", f"|---|{'--:|' * len(some)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in others)])


def _bytes(size: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{_rounded(size / factor)} {unit}"
    return "0"


def _hours(hours: float, what: str) -> str:
    if not hours:
        return "none"
    if hours < 1:
        return f"{_rounded(hours * 60)} {what}-minutes"
    return f"{_rounded(hours)} {what}-hours"


def _gpu_hours(one: Needs) -> str:
    if one.passages < GPU_FROM:
        return "not worth it"
    low, high = one.gpu_hours
    return f"{_rounded(low)} to {_rounded(high)} hours"


def _rounded(number: float) -> str:
    """Return two digits of a number, or all of an integer part that has more."""
    if number < 10:  # noqa: PLR2004 -- a digit before the point
        return f"{number:.2g}"
    digits = len(str(int(number))) - 2
    return f"{round(number, -max(digits, 0)):,.0f}"
