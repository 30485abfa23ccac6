"""Documents in order of their URIs, with and without filters, and their numbers."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from retrieval.domain.records import Document, DocumentCounts, Section, SourceFile
from retrieval.errors import DeadlinePassed
from retrieval.store import Reader, StagedDocument, open_reader, parse_filter
from retrieval.store.disk.reading import listing
from tests.store.disk.reading.test_text_parts import cut
from tests.store.test_store import key, new_writer, unit_vectors

FILTERS = (
    "even=true",
    "NOT even=true",
    "number>=40 AND number<44",
    "even=true OR number<3",
    "chunks>1",
    "size<30",
    "path:1*",
    "NOT number IN ()",
    "number=1000",
)


def put(number: int) -> StagedDocument:
    text = "x" * (1 + number % 3)
    made = cut(f"d/{number:03}", text, 1)
    document = Document(
        made.document.uri,
        "T",
        "text",
        text,
        (Section(0, ()),),
        metadata={"number": number, "even": number % 2 == 0},
    )
    source = SourceFile(Path("/x"), document.uri, "d", number, 0)
    return StagedDocument(document, source, "0" * 64, made.chunks)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("listed")
    numbers = list(range(120))
    Random(0).shuffle(numbers)  # ids are in another order than URIs
    with new_writer(folder) as writer, writer.commit() as commit:
        commit.add_vectors([key("any")], unit_vectors(1), [False])
        for number in numbers:
            commit.put_document(put(number))
        for number in (4, 41, 119):
            commit.remove_document(f"d/{number:03}")
    with open_reader(folder) as opened:
        yield opened


def passes(number: int, text: str) -> bool:
    return {
        "even=true": number % 2 == 0,
        "NOT even=true": number % 2 == 1,
        "number>=40 AND number<44": 40 <= number < 44,
        "even=true OR number<3": number % 2 == 0 or number < 3,
        "chunks>1": number % 3 > 0,
        "size<30": number < 30,
        "path:1*": number >= 100,
        "NOT number IN ()": True,
        "number=1000": False,
    }[text]


@pytest.mark.parametrize("few", [0, 20_000])
@pytest.mark.parametrize("text", FILTERS)
def test_pages_and_counts_are_those_of_a_filter(
    reader: Reader, text: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_FEW", few)
    monkeypatch.setattr(listing, "_LOOK", 10)
    expected = [n for n in range(120) if n not in (4, 41, 119) and passes(n, text)]
    where = parse_filter(text)
    found, after = [], ""
    while page := reader.documents(7, after, where):
        assert len(page) <= 7
        found += page
        after = page[-1].uri
    assert [row.uri for row in found] == [f"d/{number:03}" for number in expected]
    counts = DocumentCounts(len(found), sum(row.chunk_count for row in found))
    assert reader.count_documents(where) == counts


def test_all_documents_are_counted_without_looking(reader: Reader) -> None:
    rows = reader.documents(1_000)
    passages = sum(row.chunk_count for row in rows)
    assert reader.count_documents() == (len(rows), passages) == (117, passages)


def test_a_list_that_nobody_waits_for_ends(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieval.domain.deadline import answer_by

    monkeypatch.setattr(listing, "_FEW", 0)
    where = parse_filter("number<90")
    token = answer_by.set(0.0)
    try:
        with pytest.raises(DeadlinePassed):
            reader.documents(1_000, "", where)
    finally:
        answer_by.reset(token)
