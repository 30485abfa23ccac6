"""A browser on the search page of a real server, with documents that try to break it."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from retrieval.service.config import Writing
from tests.gateway.harness import Http, gateway
from tests.service.harness import build_index, running, word_model, write_documents

if TYPE_CHECKING:
    from tests.gateway.integrations.page.browser import Page

collect_ignore_glob = [] if find_spec("selenium") else ["*.py"]

MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
"""What would run if it became markup."""
NAMED = MARKUP.replace("/", "∕")
"""The same as the name of a file."""
HOSTILE = {
    "uri": "javascript:window.hacked=1",
    "title": MARKUP,
    "metadata": {"<b onclick=alert(1)>key</b>": MARKUP},
    "passages": [
        {"text": f"Markup bread. {MARKUP}", "heading_path": [MARKUP]},
        {"text": "Markup loaf. [a](javascript:window.hacked=1) <svg onload=window.hacked=1></svg>"},
    ],
}
"""A document with markup in everything that a document has."""
EXPECTED = ("Failed to load resource", "net::ERR_")
"""Console messages of answers that are errors, which tests ask for."""


def write_more(folder: Path) -> None:
    """Write documents with markup everywhere, near-duplicates, many small ones, and empty files."""
    (folder / f"{NAMED}.md").write_text("Markup of a file's name.")
    bread = (folder / "bread.md").read_text().replace("ten minutes", "eleven minutes")
    (folder / "bread-copy.md").write_text(bread)
    for number in range(60):
        (folder / f"note-{number:02}.md").write_text(f"# Note {number}\n\nViolin {number}.\n")
    for number in range(3):
        (folder / f"empty-{number}.md").write_text("")


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_documents(folder / "notes")
    write_more(folder / "notes")
    build_index(folder / "notes", folder / "data" / "default")
    return folder


@pytest.fixture(scope="session")
def writable(documents: Path) -> Iterator[Http]:
    settings = {"writing": Writing(documents / "data"), "models": (str(word_model()),)}
    indexes = {"default": documents / "data" / "default"}
    with running(indexes, **settings) as server, gateway(server.target) as http:
        assert http("POST", "/v1/documents", {**HOSTILE, "wait": True}).status == 201
        yield http


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    from tests.gateway.integrations.page import browser

    paths = browser.chromium()
    if paths is None:
        pytest.skip("no Chromium: install it, on Debian with apt-get install chromium-driver")
    started = browser.start(paths)
    yield started
    started.quit()


@pytest.fixture
def open_page(driver: Any) -> Iterator[Any]:
    """Opens pages by port, and checks at the end what the browser has to say of each."""
    from tests.gateway.integrations.page.browser import Page

    opened: list[Page] = []

    def open_(port: int) -> Page:
        opened.append(Page(driver, port))
        return opened[-1]

    driver.get_log("browser")
    driver.get_log("performance")
    yield open_
    for page in opened:
        assert page.run("return window.hacked") is None
        foreign = [
            one for one in page.requests() if not one.startswith((page.origin, "data:", "about:"))
        ]
        assert foreign == []
    messages = [one["message"] for one in driver.get_log("browser")]
    assert [one for one in messages if not any(known in one for known in EXPECTED)] == []
    driver.execute_script("try { sessionStorage.clear(); localStorage.clear() } catch {}")


@pytest.fixture
def page(open_page: Any, writable: Http) -> "Page":
    """The page of the server with all documents."""
    opened: Page = open_page(writable.port)
    return opened
