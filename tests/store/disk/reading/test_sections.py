"""The section around a passage."""

from hypothesis import given
from hypothesis import strategies as st

from retrieval.store import SectionSpan
from retrieval.store.disk.reading.sections import AROUND, Neighbour, section_around


def neighbours(headings: str, size: int = 10, first: int = 0) -> list[Neighbour]:
    return [
        Neighbour(first + at, (first + at) * size, (first + at + 1) * size, heading)
        for at, heading in enumerate(headings)
    ]


def around(ordinal: int, rows: list[Neighbour], most_chars: int) -> SectionSpan:
    """The section as it is found by looking further and further; nothing is decided too early."""
    by_ordinal = {row.ordinal: row for row in rows}
    near = (section_around(ordinal, by_ordinal, most_chars, one) for one in (1, 2, *AROUND))
    found = [span for span in near if span is not None]
    assert len(set(found)) == 1
    return found[0]


def test_the_whole_section() -> None:
    rows = neighbours("abbbbc")
    assert around(2, rows, 1000) == (10, 50, True)
    assert around(0, rows, 1000) == (0, 10, True)
    assert around(2, rows, 40) == (10, 50, True)


def test_as_much_as_there_is_room_for() -> None:
    rows = neighbours("bbbbb")
    assert around(2, rows, 30) == (10, 40, False)
    assert around(2, rows, 25) == (20, 40, False)
    assert around(2, rows, 1) == (20, 30, False)


def test_a_section_longer_than_what_is_looked_at() -> None:
    rows = neighbours("a" * (2 * AROUND[-1] + 1), first=5)
    span = around(5 + AROUND[-1], rows, 10**9)
    assert not span.complete


@given(st.text(alphabet="ab", min_size=1, max_size=12), st.data(), st.integers(0, 120))
def test_a_span_is_one_piece_under_the_same_headings(
    headings: str, data: st.DataObject, most: int
) -> None:
    rows = neighbours(headings)
    ordinal = data.draw(st.integers(0, len(rows) - 1))
    span = around(ordinal, rows, most)
    inside = [row for row in rows if span.start <= row.start and row.end <= span.end]
    assert rows[ordinal] in inside
    assert {row.headings for row in inside} == {headings[ordinal]}
    assert span.end - span.start <= max(most, 10)
    beside = [row for row in rows if row.end == span.start or row.start == span.end]
    whole = all(row.headings != headings[ordinal] for row in beside)
    assert span.complete == whole
