"""Random writes to both stores: whatever is looked up and read afterwards is the same."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.domain.records import (
    Chunk,
    ContainerStamp,
    Document,
    RootInfo,
    Section,
    Skipped,
    SourceFile,
)
from retrieval.store import (
    Commit,
    Location,
    Lookups,
    StagedChunk,
    StagedDocument,
    open_reader,
    parse_filter,
    verify,
)
from tests.store.test_store import key, new_writer, places_of_texts, unit_vectors

ROOTS = (RootInfo("a"), RootInfo("b", "/b"))
WORDS = ("ant", "bee", "cow", "dog", "elk")
FILTERS = (
    "kind=ant",
    "path:x* OR size>20",
    "NOT kind:*e*",
    "n>=2 AND n<2.5",
    "modified>=2024-01-01",
)


def document_of(rng: random.Random) -> tuple[Document, SourceFile, list[str]]:
    root = rng.choice("ab")
    uri = f"{root}/{rng.choice('xy')}{rng.choice(['', '/p', '/q', '.zip/p', '.zip/q/r'])}"
    texts = [" ".join(rng.choices(WORDS, k=2)) for _ in range(rng.randrange(4))]
    text = "\n".join(texts)
    metadata: dict[str, Any] = {"kind": rng.choice(WORDS), "n": rng.choice([1, 2, 2.25, "2", 3])}
    title = rng.choice(WORDS)
    document = Document(uri, title, "text", text, (Section(0, ()),), metadata=metadata)
    source = SourceFile(Path("/") / uri, uri, root, len(text), rng.randrange(2 * 10**18))
    return document, source, texts


def put(commit: Commit, rng: random.Random) -> None:
    document, source, texts = document_of(rng)
    known = commit.find_vectors([key(text) for text in texts])
    new = list(dict.fromkeys(text for text in texts if key(text) not in known))
    cut = [text.startswith("cow") for text in new]
    seeds = [int.from_bytes(key(text)[:4]) for text in new]
    vectors = np.concatenate([unit_vectors(0), *(unit_vectors(1, seed) for seed in seeds)])
    ids = commit.add_vectors([key(text) for text in new], vectors, cut)
    known.update(zip(map(key, new), ids, strict=True))
    chunks, start = [], 0
    for at, text in enumerate(texts):
        headings = (rng.choice(WORDS),)
        one = Chunk(at, start, start + len(text), text, at + 1, at + 1, headings, 2)
        chunks.append(StagedChunk(one, known[key(text)]))
        start += len(text) + 1
    staged = StagedDocument(document, source, f"{rng.randrange(2**256):064x}", chunks)
    commit.put_document(staged)


def change(commit: Commit, rng: random.Random) -> object:
    document, source, _ = document_of(rng)
    match rng.randrange(9):
        case 0 | 1 | 2 | 3:
            return put(commit, rng)
        case 4:
            return commit.remove_document(document.uri)
        case 5:
            return commit.remove_under(rng.choice([document.uri, "a/x", "b/y.zip", "b"]))
        case 6:
            if known := commit.known_file(document.uri):
                commit.touch_document(known.document_id, source)
            return known
        case 7:
            stamp = rng.choice([None, ContainerStamp(1, rng.randrange(99), "r")])
            skipped = [Skipped(f"a/x.zip/{rng.randrange(9)}", "a", "empty")]
            commit.put_container("a/x.zip", "a", stamp, skipped)
            return commit.remove_documents([document.uri] if document.uri.startswith("a") else [])
        case _:
            skipped = [Skipped(document.uri, "b", "too large", str(rng.randrange(9)))]
            containers = {"b/y.zip": ContainerStamp(3, rng.randrange(9), "")}
            return commit.set_root(ROOTS[1], skipped, containers)


def seen(lookups: Lookups) -> list[object]:
    """All that can be looked up."""
    uris = [f"{r}/{n}{end}" for r in "ab" for n in "xy" for end in ("", "/p", ".zip/p", ".zip")]
    keys = [key(f"{one} {two}") for one in WORDS for two in WORDS]
    filters = [parse_filter(text) for text in FILTERS]
    return [
        lookups.newest_generation(),
        lookups.roots(),
        lookups.root("a"),
        {root: lookups.known_files(root) for root in "abc"},
        [lookups.known_file(uri) for uri in uris],
        [lookups.document_row(uri) for uri in uris],
        [lookups.pushed_container(uri) for uri in uris],
        [lookups.skipped_in(uri) for uri in ("a/x.zip", "b", "a")],
        [lookups.count_built(prefix) for prefix in ("", "a", "b/x")],
        [lookups.pushed_documents("", one) for one in [None, *filters]],
        [lookups.count_built("b/", one) for one in filters],
        [lookups.skipped(root) for root in "ab"],
        [lookups.containers(root) for root in "ab"],
        lookups.find_vectors(keys),
        lookups.truncated_chunks(),
        [lookups.truncated_chunks(number) for number in range(1, 6)],
    ]


def read(index: Location) -> list[object]:
    """All that can be read."""
    with open_reader(index) as reader:
        info = reader.info
        documents = reader.documents(100)
        hits = reader.search_vectors(unit_vectors(3), 50)
        words = [reader.search_lexical(text, 50) for text in ("ant", '"bee cow"', "title:elk d*")]
        ids = sorted({one for row in hits.vector_ids.tolist() for one in row if one > 0})
        return [
            (info.documents, info.chunks, info.tokens, info.vectors),
            info.unused_vectors,
            documents,
            [reader.document_text(one.id) for one in documents],
            reader.passages_of_documents([one.id for one in documents]),
            hits.vector_ids.tolist(),
            [(one.text_ids.tolist(), one.scores.round(5).tolist()) for one in words],
            places_of_texts(reader, ids, [0] * len(ids)),
            [reader.count_documents(parse_filter(text)) for text in FILTERS],
            [
                [one for one in row if one >= 0]
                for text in FILTERS
                for row in reader.search_vectors(
                    unit_vectors(2), 5, filter=parse_filter(text)
                ).vector_ids.tolist()
            ],
            reader.skipped(),
            sorted(reader.skip_counts().items()),
            reader.field_values("kind", "", 9),
            reader.field_values("n", "", 9),
        ]


def assert_same(one: list[object], two: list[object]) -> None:
    for at, (left, right) in enumerate(zip(one, two, strict=True)):
        assert (at, left) == (at, right)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(at, marks=pytest.mark.slow) for at in range(1, 6))]
)
def test_both_stores_hold_the_same(tmp_path: Path, seed: int) -> None:
    indexes = [Location("", str(tmp_path / "folder")), Location("lance", str(tmp_path / "lake"))]
    with new_writer(indexes[0]) as one, new_writer(indexes[1]) as two:
        for step in range(8):
            with one.commit() as first, two.commit() as second:
                for commit in (first, second):
                    commit.claim_root(ROOTS[0])
                    commit.claim_root(ROOTS[1])
                for number in range(random.Random(f"{seed} {step}").randrange(1, 6)):
                    rngs = [random.Random(f"{seed} {step} {number}") for _ in "ab"]
                    assert change(first, rngs[0]) == change(second, rngs[1])
                assert_same(seen(first)[1:], seen(second)[1:])
            assert_same(seen(one)[1:], seen(two)[1:])
            assert_same(*map(read, indexes))
    for index in indexes:
        assert list(verify(index)) == []
