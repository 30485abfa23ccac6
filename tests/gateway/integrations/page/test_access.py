"""Everyone: the keyboard alone, screen readers, contrast, and narrow screens."""

import sys
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.gateway.integrations.conftest import RunScript
from tests.gateway.integrations.page.browser import NARROW, WIDE, Page

STATES: dict[str, dict[str, Any]] = {
    "start": {},
    "results": {"q": "ferry harbour"},
    "groups": {"q": "bread dough", "group": 1, "f": 'extension="md"'},
    "markup": {"q": "markup bread"},
    "nothing": {"q": "xylophone", "mode": "lexical"},
    "error": {"q": "x", "f": "size="},
    "document": {"q": "ferry", "doc": "notes/ferry.md", "p": 2},
    "documents": {"view": "documents"},
    "skipped": {"view": "documents", "list": "skipped"},
    "add": {"view": "add"},
    "status": {"view": "status"},
}
"""Addresses of all views."""
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@pytest.fixture(scope="session")
def axe(node: RunScript) -> str:
    """axe-core, which checks a page against the rules of accessibility."""
    return (Path(sys.prefix) / "node/node_modules/axe-core/axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("state", STATES)
def test_no_rule_of_accessibility_is_broken(
    page: Page, axe: str, state: str, size: tuple[int, int], dark: bool
) -> None:
    page.open(size=size, dark=dark, **STATES[state])
    # All that can be opened is open.
    page.run(
        """document.querySelectorAll("main details").forEach((one) => { one.open = true; });
        document.querySelectorAll("#timings-button, #list > li:first-child [aria-expanded=false]")
          .forEach((one) => one.click());"""
    )
    page.settled()
    page.run("window.scrollTo(0, 0)")
    page.run(axe)
    found = page.driver.execute_async_script(
        "axe.run({ runOnly: arguments[0] }).then((result) => arguments[1](result.violations))",
        RULES,
    )
    broken = [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found]
    assert broken == []
    wide = page.run("return document.documentElement.scrollWidth")
    assert wide <= size[0], "nothing is cut off or scrolls sideways"


def test_a_journey_with_the_keyboard_alone(page: Page) -> None:
    page.open()
    page.press("when does the ferry leave", Keys.ENTER)
    page.until(lambda: page.all("#list > li"))
    page.tab_to("Auto")
    assert page.run("return document.activeElement.id") == "mode-auto"
    page.press(Keys.ARROW_RIGHT)
    page.until(lambda: "mode=hybrid" in page.driver.current_url)
    page.settled()
    page.tab_to("The ferry")
    page.press(Keys.ENTER)
    page.until(lambda: page.all("#hit"))
    assert page.focused() == "The ferry"
    page.run("document.querySelector('#back').focus()")
    page.press(Keys.ENTER)
    page.until(lambda: page.all("#list > li"))
    page.tab_to("Details")
    page.press(Keys.SPACE)
    page.until(lambda: page.all(".inner .meta"))


def test_the_first_stop_of_the_keyboard_skips_to_the_content(page: Page) -> None:
    page.open(view="documents")
    page.run("document.activeElement.blur()")
    page.press(Keys.TAB)
    assert page.focused() == "Skip to the content"
    assert page.one(".skip").rect["y"] >= 0
    page.press(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "main"
    page.press(Keys.TAB)
    assert page.focused() == "Add documents"


def test_what_has_the_focus_is_seen(page: Page) -> None:
    page.open(q="ferry")
    for _ in range(40):
        page.press(Keys.TAB)
        name, style, width = page.run(
            """const e = document.activeElement;
            const shown = getComputedStyle(e.type === "radio" ? e.nextElementSibling : e);
            return [e.id || e.tagName, shown.outlineStyle, parseFloat(shown.outlineWidth)]"""
        )
        assert style == "solid", name
        assert width >= 2, name


def test_dark_and_light_by_the_system_and_by_the_switch(page: Page) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    page.open(dark=True)
    dark = page.run(ground)
    page.click("#theme-button")
    light = page.run(ground)
    assert light != dark
    page.driver.refresh()
    page.until(lambda: page.all("#q"))
    assert page.run(ground) == light, "the choice is kept"
    page.run("localStorage.clear()")
    page.open(dark=False)
    assert page.run(ground) == light
