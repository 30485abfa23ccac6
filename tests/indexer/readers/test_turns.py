"""Items of requests take turns, and keep their order within a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.readers.turns import TurnQueue


@given(st.lists(st.sampled_from("abcd")))
def test_each_request_has_a_turn_before_any_has_another(turns: list[str]) -> None:
    queue = TurnQueue[tuple[str, int]]()
    for number, turn in enumerate(turns):
        queue.add(turn, (turn, number))
    assert sorted(queue) == sorted((turn, number) for number, turn in enumerate(turns))
    taken = []
    while queue:
        first = queue.peek()
        assert queue.take() == first
        taken.append(first)
    # The n-th item of a request comes in the n-th round, and rounds keep the order of arrival.
    rounds = [(turns[:number].count(turn), turn) for turn, number in taken]
    arrival = list(dict.fromkeys(turns))
    assert rounds == sorted(rounds, key=lambda one: (one[0], arrival.index(one[1])))
    for turn in set(turns):
        numbers = [number for which, number in taken if which == turn]
        assert numbers == sorted(numbers)


def test_one_that_keeps_coming_waits_for_the_others() -> None:
    queue = TurnQueue[str]()
    for item in ("a1", "a2", "b1", "b2"):
        queue.add(item[0], item)
    assert queue.take() == "a1"
    queue.add("a", "a3")
    queue.add("c", "c1")
    assert [queue.take() for _ in range(len(queue))] == ["b1", "a2", "c1", "b2", "a3"]
    with pytest.raises(StopIteration):
        queue.peek()
