"""The lexical index: which words are in which text, and BM25 over them.

The engine is tantivy. Its segments are files that never change; here they lie in the index's own
folder, each under a name that a commit records, with their sizes and checksums. The engine wants
a folder of its own with a list of segments in it: a *view*, which the writer keeps
(``lexical_view``), or else one that is put together of symbolic links for as long as it takes to
open them. So a reader writes nothing into the index, and sees the segments of its own generation
alone. All segments have one set of statistics, so that scores do not depend on how often something
was committed.

Scores are BM25 with k1 = 1.2, b = 0.75 (https://doi.org/10.1561/1500000019), summed over the
fields, each with its weight.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import tantivy
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.library_path import library_path
from retrieval.store.disk.files.shared_parts import FileStamp, Opened
from retrieval.store.disk.files.vector_file import LEXICAL, WrittenFile, sample_sha256
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.lexical.analysis import VERSION, identifiers_analyzer, words_analyzer
from retrieval.store.disk.lexical.link_folder import find_view
from retrieval.store.disk.tables.rows import damaged_row

WordsState = Literal["searchable", "outdated", "missing"]
"""Of the words of an index; the latter two: an older version made it, the next build mends it."""

META = "meta.json"
"""The engine's list of segments."""
WORDS: Final = "words"
TITLE: Final = "title"
PLAIN: Final = "plain"
PLAIN_TITLE: Final = "plain_title"
IDENTIFIERS: Final = "identifiers"
TEXT: Final = "text"
VECTOR: Final = "vector"
_SEGMENT_FILE = re.compile(r"(?P<segment>[0-9a-f]{32})\.(?:(?P<opstamp>[0-9]+)\.del|[a-z]+)")

_FEW_IDS = 4_096
"""Where fewer texts may be found, the engine is told which; else what it finds is sorted out."""
_WIDEN = 4
_REMOVALS = 10


@dataclass(frozen=True, slots=True)
class LexicalState:
    """What a commit records of the lexical index."""

    language: str
    analysis: int
    meta: str
    files: Sequence[WrittenFile]


class LexicalHits(NamedTuple):
    """The texts that fit best, best first; equal scores in order of text id.

    Which of the texts that tie with the last one are among them is up to the engine: always the
    same ones of a generation, segment by segment, so that not all of them must be read.
    """

    scores: NDArray[np.float64]
    """[n] BM25, ≥ 0."""
    vector_ids: NDArray[np.int64]
    """[n]."""
    text_ids: NDArray[np.int64]
    """[n]; several texts may have one vector."""

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "LexicalHits":
        """Some of them, in this order."""
        return LexicalHits(self.scores[rows], self.vector_ids[rows], self.text_ids[rows])


NO_HITS: Final = LexicalHits(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))


def engine_name(file: WrittenFile) -> str:
    """What the engine calls a file of its own."""
    return file.name.removeprefix(LEXICAL)


def make_schema() -> tantivy.Schema:
    """The fields of a text; the plain ones alone know where a word stands."""
    return (
        tantivy.SchemaBuilder()
        .add_text_field(WORDS, tokenizer_name=WORDS, index_option="freq")
        .add_text_field(TITLE, tokenizer_name=WORDS, index_option="freq")
        .add_text_field(PLAIN, tokenizer_name=PLAIN)
        .add_text_field(PLAIN_TITLE, tokenizer_name=PLAIN)
        .add_text_field(IDENTIFIERS, tokenizer_name=IDENTIFIERS, index_option="freq")
        .add_unsigned_field(TEXT, indexed=True, fast=True)
        .add_unsigned_field(VECTOR, indexed=True, fast=True)
        .build()
    )


def load_state(connection: sqlite3.Connection) -> LexicalState | None:
    """What the connection's snapshot records of the lexical index; None: there is none yet.

    Raises:
        IndexDamaged: the list of its segments has changed.
    """
    row = connection.execute(
        "SELECT language, analysis, meta, meta_sha256 FROM lexical_index"
    ).fetchone()
    if row is None:
        return None
    language, analysis, meta, digest = row
    if hashlib.sha256(meta.encode()).hexdigest() != digest:
        raise damaged_row("its list of lexical segments has changed")
    files = connection.execute(
        "SELECT file, bytes, sha256, sample_sha256 FROM lexical_files ORDER BY file"
    )
    return LexicalState(language, analysis, meta, [WrittenFile(*file) for file in files])


def words_state(connection: sqlite3.Connection) -> WordsState:
    """Whether the words of the connection's snapshot can be searched."""
    row = connection.execute("SELECT analysis FROM lexical_index").fetchone()
    if row is not None:
        return "searchable" if row[0] == VERSION else "outdated"
    has_passages = connection.execute("SELECT 1 FROM chunks LIMIT 1").fetchone()
    return "missing" if has_passages else "searchable"


@contextmanager
def assembled(folder: Path, state: LexicalState, place: Path | None = None) -> Iterator[Path]:
    """A folder as the engine wants it, made of links; removed at the end.

    Args:
        folder: the index.
        state: what belongs in it.
        place: where to make it; None: where temporary files go.

    Raises:
        OSError: it can't be made.
        StorageError: there is no place for temporary files.
    """
    made = _linked(folder, state, place) if place else _linked_somewhere(folder, state)
    try:
        yield made
    finally:
        _remove(made)


def _linked(folder: Path, state: LexicalState, place: Path | None) -> Path:
    """Make a folder of links in a place; None: in the usual one for temporary files."""
    made = Path(tempfile.mkdtemp(".tmp", LEXICAL, place))
    try:
        for file in state.files:
            (made / engine_name(file)).symlink_to((folder / file.name).absolute())
        if state.meta:
            (made / META).write_text(state.meta)
    except BaseException:
        _remove(made)
        raise
    return made


def _linked_somewhere(folder: Path, state: LexicalState) -> Path:
    """Make a folder of links wherever that is possible."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    places = [None, *(Path(place) for place in ("/dev/shm", runtime, "/run") if place)]  # noqa: S108
    for place in places:
        try:
            return _linked(folder, state, place)
        except OSError as error:
            reason = error.strerror or str(error)
    raise StorageError(
        f"can't open the lexical index of {folder} ({reason}): it has no links of its own, and "
        f"none can be made where temporary files go; set TMPDIR to a folder that can be "
        f"written, or run `indexer build` or `indexer compact` on the index once"
    )


def _remove(made: Path) -> None:
    """Remove a folder that the engine has used.

    A thread of the engine's looks at the list of segments on its own time, under a lock that is a
    file in there: it may appear while the folder is being emptied.
    """
    for left in reversed(range(_REMOVALS)):
        try:
            shutil.rmtree(made)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise
        else:
            return


def segment_files(folder: Path, meta: str) -> list[str]:
    """Names of the files of the segments that an engine's list names, in its folder.

    A segment that texts were taken out of has a file that says which; only the newest one counts.
    """
    live = {
        segment["segment_id"].replace("-", ""): (segment["deletes"] or {}).get("opstamp")
        for segment in json.loads(meta)["segments"]
    }
    names = []
    for path in folder.iterdir():
        match = _SEGMENT_FILE.fullmatch(path.name)
        if match is None or match["segment"] not in live:
            continue
        if match["opstamp"] is None or int(match["opstamp"]) == live[match["segment"]]:
            names.append(path.name)
    return sorted(names)


def check_file(folder: Path, file: WrittenFile, path: Path | None = None) -> None:
    """Refuse a file that is not what a commit recorded, as far as is seen in no time.

    Args:
        folder: the index.
        file: what was recorded.
        path: where to read it; None: in the folder.

    Raises:
        FileNotFoundError: it is not there.
        IndexDamaged: it is another.
    """
    if not file.name.startswith(LEXICAL) or not _SEGMENT_FILE.fullmatch(engine_name(file)):
        raise IndexDamaged(f"{folder} names a lexical file outside itself: {file.name!r}")
    path = path or folder / file.name
    if path.stat().st_size != file.size or sample_sha256(path) != file.sample:
        raise IndexDamaged(
            f"{folder / file.name} is not what the index recorded; "
            f"make it anew with: indexer compact --index {folder}",
            file=file.name,
        )


def open_lexical(
    folder: Path, connection: sqlite3.Connection, opened: Opened
) -> "LexicalIndex | None":
    """Open the lexical index that the connection's snapshot names.

    Args:
        folder: the index.
        connection: has begun to read.
        opened: what is open already.

    Returns:
        None: there is none, or one that another version made; the next build makes it.

    Raises:
        FileNotFoundError: a file is not there.
        IndexDamaged: a file is not what the snapshot recorded.
        StorageError: there is no place for temporary links, where they are needed.
    """
    state = load_state(connection)
    if state is None or state.analysis != VERSION:
        return None
    files = tuple(
        opened.take(key, partial(_checked, folder, file, key))
        for file in state.files
        for key in [("words", file, FileStamp.of(folder / file.name))]
    )
    return opened.take(
        ("lexical", state.language, state.meta, files), partial(_open_checked, folder, state)
    )


def _checked(folder: Path, file: WrittenFile, key: Hashable) -> Hashable:
    """Check a file once: the key stands for one that was found to be whole."""
    check_file(folder, file)
    return key


def _open_checked(folder: Path, state: LexicalState) -> "LexicalIndex":
    """Open files that were checked.

    Raises:
        FileNotFoundError, IndexDamaged, StorageError: see ``open_lexical``.
    """
    view = find_view(folder, state.meta, [file.name for file in state.files])
    if view is not None:
        try:
            return _open(view, state)
        except (ValueError, OSError):
            pass  # a writer has just replaced it, or the system has no such device
    with assembled(folder, state) as place:
        try:
            return _open(place, state)
        except ValueError as error:
            for file in state.files:
                check_file(folder, file)  # a merge may have removed one since
            raise IndexDamaged(
                f"the lexical index of {folder} can't be read ({error}); "
                f"make it anew with: indexer compact --index {folder}"
            ) from error


def _open(place: Path, state: LexicalState) -> "LexicalIndex":
    """Open the engine's folder.

    Raises:
        ValueError: the engine can't.
        OSError: the folder is gone.
    """
    with library_path(place) as name:
        index = tantivy.Index.open(name)
        index.config_reader(reload_policy="manual")
        return LexicalIndex(index, state.language)


class LexicalIndex:
    """The lexical index of one generation; safe to share between threads."""

    def __init__(self, index: tantivy.Index, language: str) -> None:
        """Take over an open engine."""
        self.language = language
        self.words = words_analyzer(language)
        self.identifiers = identifiers_analyzer()
        self.schema = index.schema
        self._searcher = index.searcher()

    @property
    def texts(self) -> int:
        """How many texts it holds."""
        return int(self._searcher.num_docs)

    def search(self, query: tantivy.Query, k: int, allowed: IdSet | None) -> LexicalHits:
        """Find the texts that fit best.

        Args:
            query: of ``retrieval.store.disk.lexical.lexical_query``.
            k: how many, ≥ 1.
            allowed: ids of the texts that may be found; None: all.
        """
        if allowed is not None and allowed.count <= _FEW_IDS:
            return self._run(self._among(query, TEXT, allowed.ids()), min(k, allowed.count))
        most = max(1, self.texts)
        limit = k
        while True:
            limit = min(limit, most)
            hits = self._run(query, limit)
            found = len(hits.scores)
            if allowed is not None:
                hits = hits.take(allowed.contains(hits.text_ids))
            if len(hits.scores) >= k or found < limit or limit == most:
                return hits.take(slice(k))
            limit *= _WIDEN

    def score(
        self,
        query: tantivy.Query,
        vector_ids: NDArray[np.int64],
        most: int | None,
        allowed: IdSet | None,
    ) -> LexicalHits:
        """The same for the texts of given vectors; those without any of the words are left out.

        Args:
            query: see ``search``.
            vector_ids: int64 [m], which vectors.
            most: how many texts of each, the best of it; None: all.
            allowed: see ``search``.
        """
        # Few vectors have several texts, and room for all is made before anything is found.
        limit = len(vector_ids) + 1
        highest = self.texts + 1 if most is None else len(vector_ids) + most
        while True:
            hits = self._run(self._among(query, VECTOR, vector_ids), limit)
            if len(hits.scores) < limit:
                return hits if allowed is None else hits.take(allowed.contains(hits.text_ids))
            if limit >= highest:
                break
            limit = min(limit * _WIDEN, highest)
        # Some vector has many texts. One by one, it takes no room from the others.
        parts = [
            self.search(found, most or highest, allowed)
            for one in np.unique(vector_ids)
            if (found := self._among(query, VECTOR, np.array([one]))) is not None
        ]
        joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return LexicalHits._make(joined)

    def score_texts(
        self, query: tantivy.Query, text_ids: NDArray[np.int64], allowed: IdSet | None
    ) -> LexicalHits:
        """The same for given texts, int64 [m]; those without any of the words are left out."""
        hits = self._run(self._among(query, TEXT, text_ids), len(text_ids))
        return hits if allowed is None else hits.take(allowed.contains(hits.text_ids))

    def terms_with_prefix(self, field: str, prefix: str) -> list[tuple[str, int]]:
        """Terms of a field that begin so, and how many texts have each; the most common first."""
        return list(self._searcher.terms_with_prefix(field, prefix))

    def texts_with(self, field: str, term: str) -> int:
        """How many texts have a term in a field."""
        return self._searcher.doc_freq(field, term)

    def rarity(self, having: float) -> float:
        """What BM25 gives a term for being rare (its idf), > 0.

        Args:
            having: how many texts have it.
        """
        return math.log1p((max(0.0, self.texts - having) + 0.5) / (having + 0.5))

    def _among(
        self, query: tantivy.Query, field: str, ids: NDArray[np.int64]
    ) -> tantivy.Query | None:
        """A query for some texts or vectors alone; None: for none at all."""
        if not len(ids):
            return None
        these = tantivy.Query.term_set_query(self.schema, field, ids.tolist())
        must = tantivy.Occur.Must
        both = [(must, query), (must, tantivy.Query.const_score_query(these, 0.0))]
        return tantivy.Query.boolean_query(both)

    def _run(self, query: tantivy.Query | None, limit: int) -> LexicalHits:
        """The best, best first."""
        if query is None or limit < 1:
            return NO_HITS
        hits: list[tuple[Any, tantivy.DocAddress]]
        hits = self._searcher.search(query, limit, count=False).hits
        addresses = [address for _, address in hits]
        vector_ids, text_ids = (
            np.array(self._searcher.fast_field_values(field, addresses), dtype=np.int64)
            for field in (VECTOR, TEXT)
        )
        scores = np.array([score for score, _ in hits], dtype=np.float64)
        found = LexicalHits(scores, vector_ids, text_ids)
        return found.take(np.lexsort((text_ids, -scores)))
