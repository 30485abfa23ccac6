"""One commit: changes are staged in memory, then written to the tables and published."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.domain.records import ContainerStamp, RootInfo, Skipped, SourceFile
from retrieval.errors import InvalidArgument
from retrieval.store.disk.lexical.lexical_writer import Text
from retrieval.store.disk.lexical.segment_files import LexicalRecord
from retrieval.store.disk.tables.identity import new_id
from retrieval.store.disk.tables.rows import (
    chunk_values,
    document_values,
)
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS, header_key
from retrieval.store.disk.writing.commit import other_kind, utc_now
from retrieval.store.filters.values import ValueRow, value_rows
from retrieval.store.lake.local.word_files import WrittenWords
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.keyed import Ids
from retrieval.store.lake.tables.pointer import (
    Counts,
    Pointer,
)
from retrieval.store.lake.tables.records import RECORD, chunk_record, document_record
from retrieval.store.lake.tables.schema import (
    CHUNKS,
    CONTAINERS,
    DOCUMENTS,
    SCHEMAS,
    SKIPPED,
    TEXTS,
    VALUES,
    VECTORS,
    TableChange,
    rows_of,
    vector_digest,
    vector_schema,
)
from retrieval.store.lake.vectors.making import check_type, extended, has_large_tail
from retrieval.store.lake.words import changed_words, is_current
from retrieval.store.lake.writing.lookups import (
    Changes,
    LakeLookups,
    Put,
    stored_containers,
    stored_skipped,
)
from retrieval.store.lake.writing.texts import changed_uses, stored_texts, text_of
from retrieval.store.records import StagedDocument

_TextName = tuple[int, bytes]
"""What identifies a text: its vector, and the hash of its title and headings."""

_Passage = tuple[Any, ...]
"""A row of the table of chunks."""
_VECTOR: Final = SCHEMAS[CHUNKS].get_field_index("vector_id")
_TOKENS: Final = SCHEMAS[CHUNKS].get_field_index("token_count")
_TEXT: Final = SCHEMAS[CHUNKS].get_field_index("text_id")
_NONE: Final = np.empty(0, np.int64)

_Small = Skipped | tuple[str, ContainerStamp]
"""A row of the table of skipped files or of containers."""


@dataclass(slots=True)
class _NewVectors:
    """A batch of new vectors."""

    first_id: int
    content_keys: Sequence[bytes]
    vectors: NDArray[np.float32]
    truncated: Sequence[bool]


class LakeCommit(LakeLookups):
    """One commit; see ``retrieval.store.api.Commit``. Made by ``LakeWriter.commit``."""

    def __init__(self, place: Place, base: Generation, words: WrittenWords) -> None:
        """Begin to stage changes to a generation."""
        super().__init__(Changes())
        self._place = place
        self._word_files = words
        self._generation = base
        self._pointer = base.pointer
        self._ids = base.pointer.next_ids
        self._new_vectors: list[_NewVectors] = []
        self._named: dict[_TextName, None] = {}
        self.generation = base.pointer.generation + 1
        """See ``Commit``."""

    def _base(self) -> Generation:
        return self._generation

    # Staging.

    def add_vectors(
        self,
        content_keys: Sequence[bytes],
        vectors: NDArray[np.float32],
        truncated: Sequence[bool],
    ) -> list[int]:
        """See ``Commit``."""
        if len(content_keys) != len(vectors) or len(truncated) != len(vectors):
            raise InvalidArgument("content_keys, vectors and truncated differ in length")
        first = self._ids.vector
        ids = list(range(first, first + len(vectors)))
        if ids:
            self._ids = replace(self._ids, vector=first + len(ids))
            made = _NewVectors(first, list(content_keys), np.array(vectors), list(truncated))
            self._new_vectors.append(made)
            self._changes.vectors.update(zip(content_keys, ids, strict=True))
            self._changes.truncated.update(
                one for one, cut in zip(ids, truncated, strict=True) if cut
            )
        return ids

    def put_document(self, staged: StagedDocument) -> int:
        """See ``Commit``."""
        document = staged.document
        before = self.known_file(document.uri)
        document_id = self._ids.document
        # A replacement uses an id up, too, so that ids are those that the store on disk would give.
        self._ids = replace(self._ids, document=document_id + 1)
        if before is not None:
            document_id = before.document_id
            self._drop(document.uri, document_id)
        keys = [header_key(document.title, one.chunk.heading_path) for one in staged.chunks]
        chunks = []
        for one, key in zip(staged.chunks, keys, strict=True):
            *values, digest = chunk_values(document.uri, one)
            chunks.append((document_id, *values, key, digest))
            self._named[one.vector_id, key] = None
        parts = range(0, len(document.text), TEXT_PART_CHARS)
        row = {"id": document_id, **document_values(staged)}
        self._changes.puts[document.uri] = Put(
            document_id,
            row | {RECORD: document_record(row)},
            chunks,
            [
                (document_id, part, document.text[start : start + TEXT_PART_CHARS])
                for part, start in enumerate(parts)
            ],
            [_value(document_id, row) for row in value_rows(document.metadata)],
        )
        if document.uri in self._skipped():
            self._own_skipped().pop(document.uri)
        return document_id

    def _drop(self, uri: str, document_id: int) -> None:
        """Stage the removal of a document with all that belongs to it."""
        self._changes.puts.pop(uri, None)
        row = self._generation.find_uri(uri)
        if row is not None:
            self._changes.removed.add(document_id)
            self._changes.dropped.add(document_id)

    def touch_document(self, document_id: int, source: SourceFile) -> None:
        """See ``Commit``."""
        stamp = source.stamp
        times = {"mtime_ns": stamp.mtime_ns, "sidecar_mtime_ns": stamp.sidecar_mtime_ns}
        for put in self._changes.puts.values():
            if put.id == document_id:
                put.row |= times
                put.row[RECORD] = document_record(put.row)
                return
        rows, _ = self._generation.document_rows.find(np.array([document_id], np.int64))
        if not len(rows) or document_id in self._changes.removed:
            return
        (row,) = self._generation.take(DOCUMENTS, rows, SCHEMAS[DOCUMENTS].names).to_pylist()
        self._changes.removed.add(document_id)
        row |= times
        row[RECORD] = document_record(row)
        self._changes.puts[row["uri"]] = Put(document_id, row, is_touched=True)

    def remove_document(self, uri: str) -> bool:
        """See ``Commit``."""
        before = self.known_file(uri)
        if before is None:
            return False
        self._drop(uri, before.document_id)
        return True

    def remove_under(self, uri: str) -> list[str]:
        """See ``Commit``."""
        below = f"{uri}/"
        containers = self._containers()
        # A container that has lost a member must be read again by the next build.
        for at in list(containers):
            if at == uri or at.startswith(below) or uri.startswith(f"{at}/"):
                self._own_containers().pop(at)
        gone = self._under(uri)
        for one in gone:
            self.remove_document(one)
        return gone

    def _under(self, uri: str) -> list[str]:
        """Return the URIs of a document, or of all documents in a folder or container, in order."""
        found = [uri] if self.known_file(uri) else []
        return found + sorted(one for one, _ in self._chosen(f"{uri}/", None))

    def remove_documents(self, uris: Iterable[str]) -> None:
        """See ``Commit``."""
        for uri in uris:
            self.remove_document(uri)
            while (found := self.pushed_container(uri)) and not self._under(found[0]):
                self.put_container(found[0], "", None)

    def put_container(
        self, uri: str, root: str, stamp: ContainerStamp | None, skipped: Sequence[Skipped] = ()
    ) -> None:
        """See ``Commit``."""
        for one in self.skipped_in(uri):
            self._own_skipped().pop(one.uri)
        if uri in self._containers():
            self._own_containers().pop(uri)
        if stamp is not None:
            self._own_containers()[uri] = (root, stamp)
            self._own_skipped().update((one.uri, one) for one in skipped)

    def claim_root(self, root: RootInfo) -> None:
        """See ``Commit``."""
        known = self.root(root.name)
        if known is None:
            self._own_roots()[root.name] = root
        elif known.is_pushed != root.is_pushed:
            raise other_kind(root)

    def set_root(
        self,
        root: RootInfo,
        skipped: Sequence[Skipped],
        containers: Mapping[str, ContainerStamp] = MappingProxyType({}),
    ) -> None:
        """See ``Commit``."""
        self.claim_root(root)
        self._own_roots()[root.name] = root
        before = self._own_skipped()
        for one in self.skipped(root.name):
            del before[one.uri]
        before.update((one.uri, one) for one in skipped)
        stamps = self._own_containers()
        for uri in self.containers(root.name):
            del stamps[uri]
        stamps.update((uri, (root.name, stamp)) for uri, stamp in containers.items())

    def set_language(self, language: str) -> None:
        """See ``Commit``."""
        self._pointer = replace(self._pointer, language=language)

    def set_index_type(self, index_type: str, target_recall: float) -> None:
        """See ``Commit``.

        Raises:
            InvalidArgument: this store has no index of that type.
        """
        check_type(self._pointer.model.dim, index_type)
        self._pointer = replace(self._pointer, index_type=index_type, target_recall=target_recall)

    def _own_roots(self) -> dict[str, RootInfo]:
        if self._changes.roots is None:
            self._changes.roots = self.roots()
        return self._changes.roots

    def _own_skipped(self) -> dict[str, Skipped]:
        if self._changes.skipped is None:
            self._changes.skipped = dict(self._skipped())
        return self._changes.skipped

    def _own_containers(self) -> dict[str, tuple[str, ContainerStamp]]:
        if self._changes.containers is None:
            self._changes.containers = dict(self._containers())
        return self._changes.containers

    # Writing.

    def written(self) -> Pointer | None:
        """Write the changes to the tables; return the next generation, which is not published yet.

        Returns:
            the pointer of the next generation; None if nothing has changed.

        Raises:
            IndexLocked: another writer has changed a table meanwhile.
            StorageError: the tables can't be written.
        """
        pointer = replace(self._pointer, roots=self.roots())
        gone = self._generation.rows_of(CHUNKS, self._changes.dropped)
        passages = self._new_passages()
        tables, words = self._tables(gone, passages), self._words(pointer, gone, passages)
        if pointer == self._generation.pointer and words is None and not tables:
            self.generation -= 1
            return None
        pointer = replace(pointer, counts=self._counts(gone, passages))
        if pointer.ann is not None and VECTORS in tables and has_large_tail(pointer):
            pointer = replace(pointer, ann=extended(tables[VECTORS], pointer.ann))
        versions = dict(pointer.tables)
        for name, change in tables.items():
            if (version := change.version) is not None:
                versions[name] = version
        return replace(
            pointer,
            generation=self.generation,
            commit_id=new_id(),
            updated_at=utc_now(),
            tables=versions,
            next_ids=self._ids,
            words=words or pointer.words,
        )

    def _new_passages(self) -> list[_Passage]:
        """Return the rows of new chunks, and give ids to them and to new texts."""
        text_ids, content_keys = self._text_ids(), self._content_keys()
        passages, first = list[_Passage](), self._ids.chunk
        for put in self._changes.puts.values():
            for chunk in put.chunks:
                *values, header, digest = chunk
                vector_id = chunk[_VECTOR - 1]
                text_id = text_ids[vector_id, header]
                record = chunk_record(put.id, content_keys[vector_id], digest, values[1:])
                passages.append((first + len(passages), *values, text_id, header, digest, record))
        self._ids = replace(self._ids, chunk=first + len(passages))
        return passages

    def _text_ids(self) -> dict[_TextName, int]:
        """Return the ids of all texts that were put; new texts get new ids."""
        base = self._generation
        if not self._named:
            return {}
        vectors = np.unique(np.array([vector for vector, _ in self._named], np.int64))
        passages = base.by_vector.rows_of(vectors)
        # One passage of each text is enough.
        _, first = np.unique(base.places.texts[passages], return_index=True)
        table = base.take(CHUNKS, np.sort(passages[first]), ["vector_id", "header", "text_id"])
        found = {(row["vector_id"], row["header"]): row["text_id"] for row in table.to_pylist()}
        for one in self._named:
            if one not in found:
                found[one] = self._ids.text
                self._ids = replace(self._ids, text=self._ids.text + 1)
        return found

    def _content_keys(self) -> dict[int, bytes]:
        """Return the content keys of the vectors of all passages that were put.

        Raises:
            IndexDamaged: a passage names a vector that does not exist.
        """
        found: dict[int, bytes] = {}
        for batch in self._new_vectors:
            ids = range(batch.first_id, batch.first_id + len(batch.content_keys))
            found.update(zip(ids, batch.content_keys, strict=True))
        old = {vector for vector, _ in self._named}.difference(found)
        if old:
            rows, inside = self._generation.vector_rows.find(np.array(sorted(old), np.int64))
            if not inside.all():
                raise self._generation.damaged("a passage names a vector that is not there")
            table = self._generation.take(VECTORS, np.sort(rows), ["id", "content_key"])
            found.update((row["id"], row["content_key"]) for row in table.to_pylist())
        return found

    def _tables(self, gone: Ids, passages: Sequence[_Passage]) -> dict[str, TableChange]:
        """Write what has changed; return the changed tables.

        Args:
            gone: the rows of the passages that go.
            passages: the rows of new passages.
        """
        base, changed = self._generation, dict[str, TableChange]()

        def change(name: str, new: Any, *, gone: Ids = _NONE, uris: Sequence[str] = ()) -> None:  # noqa: ANN401
            if not (len(gone) or len(uris) or new.num_rows):
                return
            named = base.pointer.tables.get(name)
            changed[name] = TableChange(self._place, name, named, base.schema(name))
            changed[name].delete_rows(base.layout(name).addresses(gone))
            changed[name].delete("uri", uris)
            changed[name].append(new)

        changes = self._changes
        puts = list(changes.puts.values())
        change(VECTORS, self._vector_rows())
        for name, new in (
            (TEXTS, [row for put in puts for row in put.texts]),
            (VALUES, [row for put in puts for row in put.values]),
        ):
            change(name, rows_of(SCHEMAS[name], new), gone=base.rows_of(name, changes.dropped))
        change(CHUNKS, rows_of(SCHEMAS[CHUNKS], passages), gone=gone)
        names = SCHEMAS[DOCUMENTS].names
        documents = [tuple(put.row[name] for name in names) for put in puts]
        replaced = base.rows_of(DOCUMENTS, changes.removed)
        change(DOCUMENTS, rows_of(SCHEMAS[DOCUMENTS], documents), gone=replaced)
        small: tuple[tuple[str, Mapping[str, _Small], Mapping[str, _Small] | None], ...] = (
            (SKIPPED, stored_skipped(base), changes.skipped),
            (CONTAINERS, stored_containers(base), changes.containers),
        )
        for name, before, now in small:
            if now is not None and now != before:
                old = [uri for uri, one in before.items() if now.get(uri) != one]
                new = [_small_row(uri, one) for uri, one in now.items() if before.get(uri) != one]
                change(name, rows_of(SCHEMAS[name], new), uris=old)
        return changed

    def _vector_rows(self) -> Any:  # noqa: ANN401
        """Return the new vectors as a table of Arrow."""
        dim = self._pointer.model.dim
        schema = vector_schema(dim)
        parts = [schema.empty_table()]
        for batch in self._new_vectors:
            if batch.vectors.shape[1] != dim:
                raise InvalidArgument(f"vectors must be [n, {dim}], not {batch.vectors.shape}")
            vectors = np.ascontiguousarray(batch.vectors, np.float32)
            ids = range(batch.first_id, batch.first_id + len(vectors))
            digests = [
                vector_digest(*row) for row in zip(ids, batch.content_keys, vectors, strict=True)
            ]
            columns = [
                pa.array(ids, pa.int64()),
                pa.array(batch.content_keys, pa.binary()),
                pa.array(map(bool, batch.truncated), pa.bool_()),
                pa.array(digests, pa.binary()),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim),
            ]
            parts.append(pa.Table.from_arrays(columns, schema=schema))
        return pa.concat_tables(parts)

    def _counts(self, gone: Ids, passages: Sequence[_Passage]) -> Counts:
        """Return the numbers of rows after the commit; see ``_tables``."""
        base, before = self._generation, self._generation.pointer.counts
        tokens = sum(one[_TOKENS] for one in passages)
        tokens -= sum(base.take(CHUNKS, gone, ["token_count"]).column("token_count").to_pylist())
        vectors = sum(len(one.vectors) for one in self._new_vectors)
        new = np.array([one[_VECTOR] for one in passages], np.int64)
        lost, gained = changed_uses(base.by_vector, base.places.vectors[gone], new)
        return Counts(
            documents=before.documents - len(self._changes.removed) + len(self._changes.puts),
            chunks=before.chunks - len(gone) + len(passages),
            tokens=before.tokens + tokens,
            vectors=before.vectors + vectors,
            unused_vectors=before.unused_vectors + vectors + len(lost) - len(gained),
        )

    # Words.

    def _words(
        self, pointer: Pointer, gone: Ids, passages: Sequence[_Passage]
    ) -> LexicalRecord | None:
        """Bring the lexical index up to date; return its new record, or None if nothing changed."""
        base = self._generation
        new = np.array([one[_TEXT] for one in passages], np.int64)
        if is_current(base.pointer, pointer.language):
            lost, gained = changed_uses(base.by_text, base.places.texts[gone], new)
            if not len(lost) and not len(gained):
                return None
            texts = self._added_texts(set(gained.tolist()), passages)
            words = base.pointer.words
            return changed_words(self._word_files, words, pointer.language, lost.tolist(), texts)
        kept = np.delete(base.places.texts, gone)
        if base.pointer.words is None and not len(new) and not len(kept):
            return None
        rest = stored_texts(base, set(kept.tolist()) - set(new.tolist()), self._changes.dropped)
        added = self._added_texts(set(new.tolist()), passages)
        return changed_words(self._word_files, None, pointer.language, [], chain(rest, added))

    def _added_texts(self, wanted: set[int], passages: Sequence[_Passage]) -> Iterator[Text]:
        """Yield texts of new passages, each once."""
        names = SCHEMAS[CHUNKS].names
        documents = {put.id: put for put in self._changes.puts.values()}
        at, text = 0, ""
        for passage in passages:
            if passage[_TEXT] not in wanted:
                continue
            wanted.remove(passage[_TEXT])
            row = dict(zip(names, passage, strict=True))
            put = documents[row["document_id"]]
            if at != put.id:
                at, text = put.id, "".join(part for _, _, part in put.texts)
            yield text_of(row, put.row["title"], text)


def _value(document_id: int, row: ValueRow) -> tuple[object, ...]:
    """Return a row of the table of values."""
    whole = row.number if isinstance(row.number, int) else None
    real = row.number if isinstance(row.number, float) else None
    return (document_id, row.key, row.place, int(row.kind), row.text, whole, real)


def _small_row(uri: str, one: _Small) -> tuple[object, ...]:
    """Return a row of the table of skipped files or of containers."""
    if isinstance(one, Skipped):
        return (one.uri, one.root, one.reason, one.detail)
    root, stamp = one
    return (uri, root, stamp.size, stamp.mtime_ns, stamp.rules)
