"""Searching: passages and what is shown of them, filters, modes, pages, and the way back."""

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.gateway.harness import Http
from tests.gateway.integrations.page.browser import Page

CARD = "#list > li"
QUESTION = "when does the ferry leave the harbour"


def test_a_passage_has_its_title_its_place_its_words_and_its_scores(page: Page) -> None:
    page.open()
    assert page.focused() == "Question or words"
    page.ask(QUESTION)
    first = page.all(CARD)[0]
    assert "The ferry" in first.text
    assert "notes/ferry.md" in first.text
    assert "Lines" in first.text
    assert "The ferry › " in first.text.replace("\n", " ")
    assert {"ferry", "harbour"} <= {mark.lower() for mark in page.texts(f"{CARD}:first-child mark")}
    stages = page.texts(f"{CARD}:first-child .stages dt")
    assert stages == ["Meaning", "Words", "Both"]
    assert "10 passages" in page.said()
    assert page.driver.title == f"{QUESTION} · Search"
    assert page.focused() == "Question or words", "the focus stays where the reader types"


def test_timings_and_the_state_of_the_index(page: Page) -> None:
    page.open(q=QUESTION)
    assert page.one("#timings-button").get_attribute("aria-expanded") == "false"
    page.click("#timings-button")
    shown = page.one("#timings").text
    for stage in ("Embed the question", "Compare and rank", "Read texts", "Network and gateway"):
        assert stage in shown
    page.click("nav a", "Status")
    page.settled()
    assert page.named("h1", "Status")
    shown = page.text()
    for part in ("The server answers requests.", "tiny-words", "Generation", "The latest search"):
        assert part in shown


def test_filters_are_suggested(page: Page) -> None:
    page.open(q="bread dough")
    assert [one for one in page.texts(".facet .name") if one == "md"], "extension is open"
    page.click(".facet summary", "path")
    field = page.until(
        lambda: next((e for e in page.all(".facet input[type=search]") if e.is_displayed()), None)
    )
    field.send_keys("FERRY")
    page.until(lambda: "bread.md" not in page.texts(".facet label .name"))
    page.click(".facet label", "ferry.md")
    page.settled()
    page.until(lambda: page.texts(".chip") == ["path: ferry.md"])
    assert set(page.texts(".where .path")) == {"notes/ferry.md"}
    assert "f=path%3D%22ferry.md%22" in page.driver.current_url
    page.click(".chip")
    page.settled()
    page.until(lambda: page.texts(".chip") == [])
    assert "notes/bread.md" in page.texts(".where .path")
    assert not page.run("return document.querySelector('.facet input:checked')")


def test_values_of_one_field_are_alternatives_and_fields_are_not(page: Page) -> None:
    page.open(q="bread", f=['path="ferry.md"', 'path="violin.md"', "size<1MB"], n=50)
    assert set(page.texts(".where .path")) == {"notes/ferry.md", "notes/violin.md"}
    assert page.texts(".chip") == ["path: ferry.md", "path: violin.md", "size<1MB"]


def test_a_condition_of_ones_own_and_what_is_wrong_with_it(page: Page) -> None:
    page.open(q="bread")
    page.one("#own-filter").send_keys("size=", Keys.ENTER)
    notice = page.named("[role=alert]", "The filter is not understood")
    assert "character 6" in notice.text
    page.click("[role=alert] button", "Remove the filters")
    page.settled()
    assert page.all(CARD)
    page.click(".facet summary", "modified")
    field = page.until(
        lambda: next((e for e in page.all(".facet input[type=date]") if e.is_displayed()), None)
    )
    page.run("arguments[0].value = '2000-01-01'", field)
    page.click(".facet button", "Add")
    page.settled()
    page.until(lambda: page.texts(".chip") == ["modified>=2000-01-01"])
    assert page.all(CARD)


@pytest.mark.parametrize(
    ("mode", "said", "stages"),
    [("lexical", "by words", ["Words"]), ("dense", "by meaning", ["Meaning"])],
)
def test_modes(page: Page, mode: str, said: str, stages: list[str]) -> None:
    page.open(q="ferry harbour")
    assert "by meaning and words" in page.one(".summary").text
    page.click(f"#mode-{mode}")
    page.until(lambda: "mode=" in page.driver.current_url)
    page.settled()
    assert page.one(".summary").text.splitlines()[0].endswith(said)
    assert page.texts(f"{CARD}:first-child .stages dt") == stages


def test_results_by_document(page: Page) -> None:
    page.open(q="ferry harbour")
    page.click("label", "Group by document")
    page.until(lambda: "group=1" in page.driver.current_url)
    page.settled()
    assert "10 documents" in page.one(".summary").text
    paths = page.texts(f"{CARD} header .path")
    assert len(paths) == len(set(paths)) == 10
    assert len(page.all(f"{CARD}:first-child .passage")) == 3


def test_similar_passages_are_folded_and_shown_when_asked_for(page: Page) -> None:
    page.open(q="knead the dough for ten minutes", fold=0)
    unfolded = page.texts(".where .path")
    assert {"notes/bread.md", "notes/bread-copy.md"} <= set(unfolded)
    page.click("label", "Fold similar")
    page.until(lambda: "fold=0" not in page.driver.current_url)
    page.settled()
    button = page.named(f"{CARD}:first-child .actions button", "similar passage")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    page.until(lambda: page.texts(f"{CARD}:first-child .inner .path"))
    page.run("document.querySelector('#list').scrollIntoView()")


def test_more_like_this(page: Page) -> None:
    page.open(q="ferry harbour bicycles")
    page.click(f"{CARD}:first-child a", "More like this")
    page.until(lambda: page.texts(".chip")[0].startswith("Like: The ferry, lines "))
    page.settled()
    assert "notes/ferry.md" in page.texts(".where .path")
    assert page.texts(f"{CARD}:first-child .stages dt") == ["Meaning"]
    page.click(".chip")
    page.settled()
    assert page.one("#q").get_attribute("value") == "ferry harbour bicycles"


def test_more_results_and_the_same_page_again(page: Page) -> None:
    page.open(q="violin")
    before = page.texts(f"{CARD} h2")
    page.click("#more")
    page.until(lambda: len(page.all(CARD)) == 20)
    assert page.texts(f"{CARD} h2")[:10] == before
    assert page.run("return document.activeElement.id") == "hit-10"
    shown = page.texts(f"{CARD} .passage .text")
    page.driver.refresh()
    page.until(lambda: len(page.all(CARD)) == 20)
    assert page.texts(f"{CARD} .passage .text") == shown


def test_more_results_of_an_index_that_has_changed_meanwhile(page: Page, writable: Http) -> None:
    page.open(q="violin")
    put = {"uri": "changed.md", "text": "Something else.", "wait": True}
    assert writable("POST", "/v1/documents", put).status in (200, 201)
    page.click("#more")
    page.until(lambda: len(page.all(CARD)) == 20)
    page.until(lambda: page.run("return document.activeElement.id") == "hit-10")


def test_another_collection(open_page: Any, http: Http) -> None:
    page: Page = open_page(http.port)
    page.open(q="tea harbour", f='extension="md"')
    Select(page.one("#collection")).select_by_visible_text("tea")
    page.until(lambda: "c=tea" in page.driver.current_url)
    page.settled()
    assert page.texts("#list .where .path") == ["tea/tea.md"]
    assert page.texts(".chip") == [], "a filter is of one collection"
    page.driver.back()
    page.until(lambda: page.one("#collection").get_attribute("value") == "default")


def test_the_back_button(page: Page) -> None:
    page.open()
    page.ask("ferry")
    page.ask("violin strings")
    page.click("#mode-lexical")
    page.until(lambda: "mode=lexical" in page.driver.current_url)
    page.settled()
    page.driver.back()
    page.until(lambda: page.run("return document.querySelector('#mode-auto').checked"))
    assert page.one("#q").get_attribute("value") == "violin strings"
    page.driver.back()
    page.until(lambda: page.one("#q").get_attribute("value") == "ferry")
    assert "The ferry" in page.all(CARD)[0].text
    page.driver.forward()
    page.until(lambda: page.one("#q").get_attribute("value") == "violin strings")


def test_a_search_that_is_superseded_is_cancelled(page: Page) -> None:
    page.open()
    page.driver.get_log("performance")
    with page.network(latency=1500):
        box = page.one("#q")
        box.send_keys("ferry", Keys.ENTER)
        page.until(lambda: page.said() == "Searching…")
        box.clear()
        box.send_keys("violin strings rosin", Keys.ENTER)
        page.until(lambda: page.all(CARD))
    page.settled()
    assert "violin" in page.all(CARD)[0].text.lower()
    log = [one["message"] for one in page.driver.get_log("performance")]
    assert [one for one in log if '"Network.loadingFailed"' in one and '"canceled":true' in one]


def test_nothing_found_says_what_to_do(page: Page) -> None:
    page.open(q="xylophone", mode="lexical")
    assert "Nothing was found" in page.text()
    page.click("button", "Search by meaning and words")
    page.settled()
    assert page.all(CARD)


def test_errors_say_what_to_do(page: Page) -> None:
    page.open(q="ferry", rerank=1)
    assert page.named("[role=alert]", "The server has no reranker")
    page.click("[role=alert] button", "Search without it")
    page.until(lambda: page.all(CARD))
    with page.network(offline=True):
        page.one("#q").send_keys(" again", Keys.ENTER)
        assert page.named("[role=alert]", "The server can't be reached")
    page.click("[role=alert] button", "Try again")
    page.until(lambda: page.all(CARD))
    page.open(q="ferry", c="nothing")
    assert page.named("[role=alert]", "It is not there")
