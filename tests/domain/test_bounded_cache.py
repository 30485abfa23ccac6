"""What is kept in memory stays bounded, and is what was put there."""

from hypothesis import given
from hypothesis import strategies as st

from retrieval.domain.bounded_cache import Recent


@given(st.lists(st.dictionaries(st.integers(0, 9), st.just(None), max_size=4), max_size=30))
def test_it_gives_what_was_put_and_stays_bounded(puts: list[dict[int, None]]) -> None:
    recent = Recent[int, list[int]](20, len)
    for keys in puts:
        recent.put({key: [key] * key for key in keys})
        found = recent.get(range(10))
        assert all(value == [key] * key for key, value in found.items())
        assert sum(map(len, found.values())) <= 20


def test_what_was_not_used_for_longest_goes_first() -> None:
    recent = Recent[str, str](3, len)
    recent.put({"a": "1", "b": "2", "c": "3"})
    recent.get(["a"])
    recent.put({"d": "4"})
    assert recent.get("abcd") == {"a": "1", "c": "3", "d": "4"}


def test_what_costs_too_much_is_not_kept() -> None:
    recent = Recent[str, str](3, len)
    recent.put({"a": "1234"})
    assert recent.get("a") == {}


def test_only_what_is_missing_is_read() -> None:
    recent = Recent[str, str](3, len)
    recent.put({"a": "1"})
    asked: list[list[str]] = []

    def read(keys: list[str]) -> dict[str, str]:
        asked.append(keys)
        return dict.fromkeys(keys, "2")

    assert recent.get_or_read(["a", "b"], read) == {"a": "1", "b": "2"}
    assert recent.get_or_read(["a", "b"], read) == {"a": "1", "b": "2"}
    assert asked == [["b"]]
