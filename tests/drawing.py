"""How hypothesis draws examples.

``make test`` draws the same examples every time, so that a run says something about the code, not
about luck. ``make fuzz`` draws new ones, ten times as many for each test, whatever number the test
itself asks for.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import settings

STEADY, FUZZ = "steady", "fuzz"
"""Names of the profiles of ``make test`` and ``make fuzz``."""
FUZZ_FACTOR = 10
"""How many times as many examples ``make fuzz`` draws."""

# No deadline for an example: on a busy machine one may take any time. pytest-timeout bounds a test.
settings.register_profile(STEADY, derandomize=True, deadline=None)
settings.register_profile(FUZZ, derandomize=False, deadline=None, print_blob=True)


def draw_more(test: Callable[..., Any]) -> None:
    """Let a test decorated with ``given`` draw ``FUZZ_FACTOR`` times as many examples."""
    # Where `@settings` keeps what a test asks for: hypothesis has no public way to change it.
    name = "_hypothesis_internal_use_settings"
    asked: settings = getattr(test, name)
    setattr(test, name, settings(asked, max_examples=FUZZ_FACTOR * asked.max_examples))
