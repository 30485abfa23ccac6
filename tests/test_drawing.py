"""How the tests run: all of them, with examples that are the same each time but for fuzzing."""

from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import given, is_hypothesis_test, settings
from hypothesis import strategies as st

from tests.drawing import FUZZ, FUZZ_FACTOR, STEADY, draw_more


@pytest.mark.parametrize("asks", [settings(max_examples=7), settings()])
def test_fuzz_draws_more_whatever_a_test_asks_for(asks: settings) -> None:
    drawn = []

    @asks
    @given(st.integers())
    def probe(number: int) -> None:
        drawn.append(number)

    probe()
    usual = len(drawn)
    draw_more(probe)
    probe()
    assert usual == asks.max_examples
    assert len(drawn) - usual == FUZZ_FACTOR * usual


def test_make_test_draws_the_same_every_time() -> None:
    drawn = []

    @settings(settings.get_profile(STEADY), max_examples=20)
    @given(st.text())
    def probe(text: str) -> None:
        drawn.append(text)

    probe()
    probe()
    assert drawn[:20] == drawn[20:]
    assert not settings.get_profile(FUZZ).derandomize


def test_property_tests_are_marked_by_themselves(request: pytest.FixtureRequest) -> None:
    drawn = [item for item in request.session.items if item.get_closest_marker("drawn")]
    functions = [item.function for item in request.session.items if hasattr(item, "function")]
    assert len(drawn) == sum(map(is_hypothesis_test, functions))
    if request.config.getoption("--hypothesis-profile") != FUZZ:
        assert settings.get_current_profile_name() == STEADY


def test_no_folder_of_tests_is_left_out(pytestconfig: pytest.Config) -> None:
    ignored = pytestconfig.getini("norecursedirs")
    tests = Path(__file__).parent
    folders = {path.parent for path in tests.rglob("test_*.py")}
    names = {part for folder in folders for part in folder.relative_to(tests).parts}
    assert "build" in names
    assert not [name for name in names if any(fnmatch(name, pattern) for pattern in ignored)]
