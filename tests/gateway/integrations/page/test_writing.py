"""Files that are dropped or chosen, and tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from retrieval.service.access.token_file import create_token
from retrieval.service.config import Writing
from tests.gateway.harness import Http, gateway
from tests.gateway.integrations.page.browser import Page
from tests.service.harness import running, word_model


def test_a_dropped_file_is_found_at_once(page: Page) -> None:
    page.open(q="zeppelin", mode="lexical")
    assert "Nothing was found" in page.text()
    page.drop(("zeppelin.md", "# Airships\n\nA zeppelin is filled with helium."))
    assert page.named(".upload", "zeppelin.md")
    assert page.named(".upload", "Added")
    assert page.named("h1", "Add documents")
    page.until(lambda: "zeppelin.md can be found now" in page.said())
    assert page.named(".upload", "It can be found now")
    page.click(".upload a", "Read it")
    assert page.named("h1", "Airships")
    page.driver.back()
    page.click("nav a", "Search")
    page.click("#mode-lexical")
    page.ask("zeppelin")
    assert page.texts("#list .where .path") == ["zeppelin.md"]
    page.drop(("zeppelin.md", "# Airships\n\nA zeppelin is filled with hydrogen."))
    assert page.named(".upload", "Replaced")


def test_chosen_files_go_into_a_folder(page: Page, tmp_path: Path) -> None:
    page.open(view="add")
    page.one("#folder").send_keys("inbox/")
    paths = []
    for name in ("one.md", "two <b>.md", "three?#%.md"):
        paths.append(tmp_path / name)
        paths[-1].write_text(f"# {name}\n\nA text about barometers.")
    page.one("#files").send_keys("\n".join(map(str, paths)))
    for path in paths:
        assert page.named(".upload.done", f"inbox/{path.name}")
    page.open(q="barometers", mode="lexical", fold=0)
    assert set(page.texts("#list .where .path")) == {f"inbox/{path.name}" for path in paths}


def test_files_that_can_not_be_put_say_why(page: Page) -> None:
    page.open(view="add")
    page.drop(("broken.pdf", "%PDF-1.7 broken"), ("fine.txt", "A fine text."))
    assert page.named(".upload.failed", "The file can't be read: Nothing to index in broken.pdf")
    assert page.named(".upload.done", "fine.txt")
    page.one("#folder").send_keys("notes")
    page.drop(("mine.md", "A text."))
    assert page.named(".upload.failed", "Choose another folder.")
    with page.network(offline=True):
        page.one("#folder").clear()
        page.drop(("later.txt", "A later text."))
        assert page.named(".upload.failed", "The server can't be reached")
    page.click(".upload.failed button", "Try again")
    assert page.named(".upload.done", "later.txt")


def test_a_server_that_takes_no_documents(open_page: Any, documents: Path) -> None:
    with (
        running({"default": documents / "data" / "default"}) as server,
        gateway(server.target) as http,
    ):
        page = open_page(http.port)
        page.open()
        assert "Add" not in [one.text for one in page.all("nav a")]
        page.drop(("a.md", "text"))
        assert not page.all(".upload")
        page.open(view="add")
        assert "takes no documents" in page.text()


@pytest.fixture
def guarded(documents: Path, tmp_path: Path) -> Iterator[tuple[Http, dict[str, str]]]:
    file = tmp_path / "tokens.json"
    tokens = {
        "reader": create_token(file, "reader", scopes=("search", "read")),
        "finder": create_token(file, "finder", scopes=("search",)),
        "writer": create_token(file, "writer", scopes=("search", "read", "write")),
    }
    writing = Writing(tmp_path / "data")
    with (
        running(
            {"default": documents / "data" / "default"},
            token_file=file,
            writing=writing,
            models=(str(word_model()),),
        ) as server,
        gateway(server.target) as http,
    ):
        yield http, tokens


def give(page: Page, token: str) -> None:
    page.until(lambda: page.one("#token-dialog").get_attribute("open"))
    page.one("#token").clear()
    page.one("#token").send_keys(token, Keys.ENTER)


def test_tokens_are_asked_for_and_kept_in_the_tab(
    open_page: Any, guarded: tuple[Http, dict[str, str]]
) -> None:
    http, tokens = guarded
    page: Page = open_page(http.port)
    page.driver.get(f"{page.origin}/#q=ferry")
    page.until(lambda: page.one("#token-dialog").get_attribute("open"))
    assert page.focused() == "Token"
    assert "sessionStorage" in page.one("#token-dialog").text
    give(page, "rt_wrong")
    page.until(lambda: "revoked" in page.one("#token-dialog").text)
    give(page, tokens["reader"])
    page.until(lambda: page.all("#list > li"))
    assert page.run("return sessionStorage.length") == 1
    assert tokens["reader"] not in page.run("return JSON.stringify(localStorage) + document.cookie")
    assert tokens["reader"] not in page.driver.current_url
    page.driver.refresh()
    page.until(lambda: page.all("#list > li"))
    page.drop(("a.md", "A text of a reader."))
    assert page.named(".upload.failed", "Your token may not do this")
    page.click("#token-button")
    page.click("#token-forget")
    assert page.named("[role=alert]", "A token is needed")
    assert page.run("return sessionStorage.length") == 0
    page.click("#token-cancel")
    page.click("[role=alert] button", "Enter a token")
    give(page, tokens["finder"])
    assert page.named("[role=alert]", "Your token may not do this")
    page.click("[role=alert] button", "Enter another token")
    give(page, tokens["writer"])
    page.drop(("b.md", "A text of a writer."))
    assert page.named(".upload.done", "b.md")
