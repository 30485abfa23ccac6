"""A passage in its document, the list of documents, and the files that were skipped."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.gateway.integrations.page.browser import Page
from tests.gateway.integrations.page.conftest import NAMED
from tests.service.harness import SECTIONS


def test_a_passage_in_its_document_with_what_is_around_it(page: Page) -> None:
    page.open(q="questions of the ferry")
    first = page.texts("#list > li:first-child .crumbs b")
    page.click("#list > li:first-child a", "The ferry")
    page.until(lambda: page.all("#hit"))
    assert page.focused() == "The ferry"
    assert page.driver.title == "The ferry · Search"
    assert first[-1] == "Questions"
    hit = page.one("#hit").text
    assert "This passage · Lines" in hit
    assert "ferry" in page.texts("#hit mark")
    pieces = page.texts(".piece .text")
    assert len(pieces) >= 3
    assert [one for one in pieces if "Overview" in one or "History" in one]
    for fact in ("markdown", "utf-8", "Passages"):
        assert fact in page.one(".facts").text


def test_the_text_grows_in_both_directions(page: Page) -> None:
    page.open(view="documents", doc="notes/ferry.md", p=4)
    assert page.texts(".piece .text")
    page.click("#show-before")
    page.until(lambda: not page.all("#show-before"))
    text = "\n".join(page.texts(".stretch"))
    for section in SECTIONS:
        assert text.count(f"{section} of the ferry.") == 1, "overlaps are shown once"
    page.open(view="documents", doc="notes/ferry.md", p=0)
    page.click("#show-after")
    page.until(lambda: not page.all("#show-after"))
    assert "Questions of the ferry." in page.one(".stretch").text


def test_back_from_a_document_is_where_the_reader_was(page: Page) -> None:
    page.open(q="violin", n=20)
    link = page.one("#hit-15")
    page.run("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    page.until(lambda: page.all("#hit"))
    page.driver.back()
    page.until(lambda: page.run("return document.activeElement.id") == "hit-15")
    top = page.run("return document.querySelector('#hit-15').getBoundingClientRect().top")
    assert 0 < top < 900
    page.driver.forward()
    page.until(lambda: page.all("#hit"))
    page.click("#back")
    page.until(lambda: page.run("return document.activeElement.id") == "hit-15")
    assert len(page.all("#list > li")) == 20


def test_back_from_a_document_that_was_opened_by_its_address(page: Page) -> None:
    page.open(q="ferry", doc="notes/violin.md")
    page.click("#back")
    page.until(lambda: page.all("#list > li"))


def test_a_document_that_is_gone(page: Page) -> None:
    page.open(doc="notes/nothing.md")
    assert page.named("[role=alert]", "It is not there")


def test_all_documents_by_pages(page: Page) -> None:
    page.open(view="documents")
    assert page.named("h1", "Documents")
    assert len(page.all("tbody tr")) == 50
    page.click(".more button", "Show more")
    page.until(lambda: len(page.all("tbody tr")) > 70)
    assert not page.all(".more button")
    assert page.focused() in page.texts("tbody a")
    page.click("tbody a", "The violin")
    page.until(lambda: page.all("#hit"))
    page.click("#back", "Back to the documents")
    assert page.named("h1", "Documents")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fErrY", {"notes/ferry.md"}),
        ("NOTES/fe", {"notes/ferry.md"}),
        ("the viol", {"notes/violin.md"}),
        ("onclick", set()),
        ("[*]?", set()),
        ("hacked=1<∕SCRIPT>.md", {f"notes/{NAMED}.md"}),
    ],
)
def test_documents_are_found_by_title_or_name(page: Page, text: str, found: set[str]) -> None:
    page.open(view="documents")
    page.one("#find").send_keys(text, Keys.ENTER)
    page.until(lambda: "find=" in page.driver.current_url)
    page.settled()
    assert set(page.texts("tbody .path")) == found
    assert page.run("return document.activeElement.id") == "find"
    page.driver.back()
    page.until(lambda: len(page.all("tbody tr")) == 50)


def test_skipped_files_and_the_reasons(page: Page) -> None:
    page.open(view="documents")
    page.click("#tab-skipped")
    page.until(lambda: page.texts("tbody .path"))
    assert page.texts("tbody .path") == [f"notes/empty-{number}.md" for number in range(3)]
    assert page.texts(".tile dd") == ["3"]
    assert page.texts(".tile dt")[0] in page.one("tbody tr").text
