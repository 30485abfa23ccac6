"""Texts with markup in them are texts, wherever they come from; the fixture checks nothing ran."""

from tests.gateway.integrations.page.browser import Page
from tests.gateway.integrations.page.conftest import HOSTILE, MARKUP, NAMED


def test_markup_of_documents_is_shown_as_text(page: Page) -> None:
    page.open(q="markup", mode="lexical", fold=0)
    assert {f"notes/{NAMED}.md", HOSTILE["uri"]} == set(page.texts("#list .where .path"))
    card = page.named("#list > li", "Markup bread.")
    for button in card.find_elements("css selector", "[aria-expanded]"):
        button.click()
    # Its title, its heading, its text, and its metadata.
    assert card.text.count(MARKUP) == 4
    assert "<b onclick=alert(1)>key</b>" in card.text
    other = page.named("#list > li", "Markup loaf.")
    assert "[a](javascript:window.hacked=1) <svg onload=window.hacked=1></svg>" in other.text
    other.find_element("css selector", "h2 a").click()
    page.until(lambda: page.all("#hit"))
    assert page.texts("h1") == [MARKUP]
    assert MARKUP in "".join(page.texts(".stretch h2"))
    assert "<svg onload=window.hacked=1></svg>" in "".join(page.texts(".stretch"))
    assert MARKUP in page.texts(".facts dd")


def test_addresses_that_are_code_are_no_links(page: Page) -> None:
    page.open(view="documents", doc=HOSTILE["uri"])
    assert page.texts(".where .path") == [HOSTILE["uri"]]
    assert "Open the original" not in page.text()
    page.open(q="markup", mode="lexical")
    hrefs = page.run("return [...document.querySelectorAll('a')].map((a) => a.protocol)")
    assert set(hrefs) == {"http:"}


def test_markup_in_filters_and_in_the_address(page: Page) -> None:
    page.open(q=MARKUP, f=f'title="{MARKUP}', c="default")
    assert page.one("#q").get_attribute("value") == MARKUP
    assert page.texts(".chip") == [f'title="{MARKUP}']
    page.open(q="bread")
    field = next(one for one in page.texts(".facet .name") if "onclick" in one)
    page.click(".facet summary", field)
    page.click(".facet label", MARKUP)
    page.until(lambda: page.texts(".chip"))
    page.settled()
    assert set(page.texts(".where .path")) == {HOSTILE["uri"]}
    page.open(c=MARKUP, view="status")
    assert page.named("[role=alert]", "It is not there")


def test_markup_in_names_of_files_that_are_put(page: Page) -> None:
    page.open(view="add")
    page.drop((f"{NAMED}.txt", "A dropped text."))
    assert page.named(".upload.done", NAMED)
    page.drop((f"{NAMED}.pdf", "%PDF-1.7 broken"))
    assert page.named(".upload.failed", f"{NAMED}.pdf")


def test_the_browser_keeps_the_policy(page: Page) -> None:
    page.open()
    markup = "try { document.body.innerHTML = 'x' } catch (error) { return error.name }"
    code = """try {
      const made = document.createElement("script");
      made.textContent = "window.hacked = 1";
      document.body.append(made);
    } catch (error) { return error.name }"""
    assert (page.run(markup), page.run(code)) == ("TypeError", "TypeError")
    elsewhere = "http://127.0.0.1:9/"
    fetched = page.driver.execute_async_script(
        "fetch(arguments[0]).then(() => arguments[1]('ok'), (e) => arguments[1](e.name))", elsewhere
    )
    assert fetched == "TypeError"
    refused = [one["message"] for one in page.driver.get_log("browser")]
    assert any("TrustedHTML" in one for one in refused)
    assert any("connect-src 'self'" in one for one in refused)
    assert elsewhere not in page.requests()
