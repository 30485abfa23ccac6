"""What is left out of a web page: the parts around its content, and nothing of documentation."""

import pytest

from indexer.parse.formats import parse

ARTICLE = "<p>A paragraph of the article, long enough to be what the page is about.</p>" * 5


def left(html: str) -> str:
    """What remains of a page beside its article."""
    text = parse("docs/page.html", f"<body><h1>T</h1>{html}".encode()).text
    kept = [line for line in text.split("\n\n") if not line.startswith("A paragraph of the")]
    return " ".join(" ".join(kept).split())


@pytest.mark.parametrize(
    "part",
    [
        "<nav>no</nav>",
        "<header>no</header>",
        "<footer>no</footer>",
        "<aside>no</aside>",
        "<div role=search>no</div>",
        "<div id=sidebar><h2>no</h2></div>",
        "<div class='widget widget_text'>no</div>",
        "<ul class=breadcrumbs><li>no</ul>",
        "<div class=CookieBanner>no</div>",
        "<section class=related-posts><h2>no</h2></section>",
        "<ol class=comment-list><li><article>no</article><li><article>no</article></ol>",
        "<div class=site-footer>no</div>",
        "<h3>You might also like</h3><ul><li><a>no</a><li><a>no, no and no</a></ul>",
        "<div><h4>Ähnliche Beiträge</h4></div><div><a>no no no no no no no no</a></div>",
        "<p>Read more: <a>no no no no no no no no</a></p>",
        "<div class=teaser><a>no</a></div>",
    ],
)
def test_parts_of_the_page(part: str) -> None:
    assert left(f"{ARTICLE}{part}") == "T"


@pytest.mark.parametrize(
    "part",
    [
        "<aside>yes</aside>",
        "<header>yes</header>",
        "<blockquote>yes<footer>yes</footer></blockquote>",
        "<section id=comments><h2>yes</h2></section>",
        "<div class=section id=sponsors>yes</div>",
        "<section class=level2 id=related-articles>yes</section>",
        "<div class=entry-content id=content-sidebar>yes</div>",
        "<div class='teaser'>yes</div>",
        "<ul><li><a>yes</a><li><a>yes</a><li><a>yes</a></ul>",
        "<h2>Comments</h2><p>yes, these are about comments in the language.</p>",
        "<div class='admonition note sidebar'>yes</div>",
    ],
)
def test_content_stays_in_an_article(part: str) -> None:
    assert "yes" in left(f"<article>{ARTICLE}{part}</article>")


@pytest.mark.parametrize("name", ["page-with-sidebar", "has-footer", "comments", "modal"])
def test_what_holds_the_content_is_not_left_out(name: str) -> None:
    for content in ("<main>yes</main>", "<h1>yes</h1>", "<article>yes</article>"):
        text = parse("a.html", f"<div class='{name}'>{content}</div>".encode()).text
        assert text == "yes"


def test_a_page_that_is_mostly_comments_keeps_them() -> None:
    comments = "<p>A comment of a reader with something to say.</p>" * 20
    assert left(f"<p>A question.</p><div class=comments>{comments}</div>").count("something") == 20


def test_lists_of_links_are_the_content_of_an_index() -> None:
    links = "".join(f"<li><a href='{n}.html'>Chapter {n}</a></li>" for n in range(50))
    assert left(f"<div class=toctree-wrapper><ul>{links}</ul></div>").count("Chapter") == 50
