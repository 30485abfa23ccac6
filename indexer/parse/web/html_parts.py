r"""Tell the parts of a web page that surround its content by their elements, roles and names.

Navigation, page headers and footers, sidebars, comments, links to other pages and to social
networks, forms and notices about cookies are not what a reader searches a page for. Authors of
pages say what a part is: by its element (``<nav>``), its role (``role="search"``), its class or id
(``related-posts``), or its title ("You might also like").

Measured on the 990 pages of trafilatura's evaluation, whose annotators marked what belongs to the
text: see ``docs/formats.md``.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final

from selectolax.lexbor import LexborNode

from indexer.parse.base.outline import words


class Part(IntEnum):
    """What an element is, by its tag, its role and its names."""

    CONTENT = 0
    """Anything that does not say what it is."""
    LINKS = 1
    """Left out if it consists of links, as teasers of other pages do."""
    PAGE = 2
    """Left out unless it is inside the content."""
    FURNITURE = 3
    """Left out also inside the content."""


MAY_BE_PARTS: Final = words("aside div dl footer form header nav ol p section ul")
"""Elements whose roles and names are looked at."""
_TAGS: Final = {"nav": Part.FURNITURE, "footer": Part.FURNITURE, "aside": Part.PAGE}
_TAGS["header"] = Part.PAGE
_ROLES: Final = {
    "alertdialog": Part.PAGE,
    "banner": Part.PAGE,
    "complementary": Part.PAGE,
    "contentinfo": Part.PAGE,
    "dialog": Part.PAGE,
    "navigation": Part.FURNITURE,
    "search": Part.FURNITURE,
}
_QUOTATIONS: Final = frozenset({"blockquote", "figure"})
"""Elements whose ``<footer>`` says who is quoted."""

_CONTENT_NAMES: Final = re.compile(
    r"(?:article|entry|story)-?(?:body|content)|foot-?note|end-?note|(?:margin|side)-?note"
    r"|admonition|callout"
)

# Parts of a name between hyphens, digits and underscores.
_FURNITURE_WORDS: Final = r"""
    breadcrumbs? | pagination | pager | postnav | prevnext | (?:post|page|next|prev)-nav(?:igation)?
    | nav-(?:links|previous|next) | post-next-prev | (?:next|prev)-?post | back-?to-?top
    | scroll-?top | off-?canvas | mega-?menu | flyout | (?:mobile|slide|side)-?menu

    | footer | sidebars? | side-?(?:bar|col|column|nav|menu)\d* | widget-?area | widget_\w+
    | textwidget | site-(?:branding|description|tagline)

    | cookies? | cookie-?(?:banner|bar|consent|law|notice) | gdpr | consent | overlay | lightbox
    | paywall | push-?layer | newsletters? | news-letter | subscribe | subscriptions? | signup
    | register | donation | donate

    | shar(?:es?|ing|ed|edaddy) | share-?(?:bar|box|buttons?|icons?|links?|this) | socials?
    | social-?(?:bar|buttons?|icons|links|media|network|share|sharing) | addthis | addtoany
    | shariff | (?:article|post|page|entry|share|action)-?tools | print-?(?:button|link)
    | app-?stores?

    | related | related-?(?:articles|content|links|news|posts?|stories) | relacionad[ao]s? | yarpp
    | recommend(?:ed|ations?)? | recirc(?:ulation)? | upsell | outbrain | taboola | trending
    | (?:latest|more|most|other|popular|recent|top)-?(?:articles|comments|news|popular|posts|read
    |stories) | interesting-articles | keep-reading | same-topic | meist-gelesen | playlist
    | link-?(?:box|list|liste) | (?:quick|service)-?links | weather | wetter | poll | rating | vote
    | (?:post|star)-?ratings?

    | comments | comment-?(?:area|form|list|reply|respond|s?block|section|wrapper)
    | comments-?(?:area|form|link|list|respond|section|wrapper) | respond | disqus | kommentare?
    | recentcomments

    | tag-?(?:cloud|list|links) | (?:article|entry|post|story)-?tags | tagged-with
    | author-?(?:bio|block|box|card|description|info) | (?:about|article|entry|post)-(?:the-)?author
    | byline | (?:article|entry|page|post)-?meta(?:-?data|-info)? | postmetadata | entry-utility

    | ads? | advert(?:isements?|ising|s)? | affiliate-?links? | anzeige | banner | promo
    | publicidad | reklama | sponsored | werbung
    | copyright | (?:image|photo|picture)-?credits? | credits? | img-metadata | license-area
    | akismet\w*
"""
_FURNITURE_NAMES: Final = r"""
    hide-print | menu | modal | nav | navbar | navigation | notforprint | popup | skip-link | tags
"""
_PAGE_WORDS: Final = r"""
    (?:global|main|page|site|top)-?header | impressum | imprint | login | main-?menu | main-?nav
    | masthead | menu | menu-?bar | nav | navbar | navi | navigation | search-?(?:bar|box|form)
    | sponsors? | submenu | subnav | toolbar | top-?bar | top-?nav
"""
_PAGE_NAMES: Final = r"""
    aside | bottom | disclaimer | foot | header | (?:left|right)-?col(?:umn)? | legal | logo
    | prefooter | search | secondary | tertiary
"""
_LINK_WORDS: Final = r"""
    cards? | categories | cat-links | cta | linklist | more | read-?more | teasers?
    | teaser-?(?:block|box|list|text) | tiles? | tools | topics? | widget
"""
_LINK_NAMES: Final = "category | tag"


def _pattern(in_names: str, whole: str = r"(?!)") -> re.Pattern[str]:
    """Return the pattern of names: words anywhere in a name, and whole names."""
    return re.compile(
        rf"(?<![a-z])(?:{in_names})(?![a-z])|(?<![\w-])(?:{whole})(?![\w-])", re.VERBOSE
    )


_FURNITURE: Final = _pattern(_FURNITURE_WORDS, _FURNITURE_NAMES)
_PAGE: Final = _pattern(_PAGE_WORDS, _PAGE_NAMES)
_LINKS: Final = _pattern(_LINK_WORDS, _LINK_NAMES)
_CAMEL: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])")

_MAX_NAME_CHARS: Final = 500
"""Longer classes are cut: a page may have megabytes of them."""

_TITLES: Final = re.compile(
    r"""
    # English
    you\ (?:might|may)\ (?:also\ )?(?:be\ interested|enjoy|like)
    | (?:latest|more|other|popular|recent|recommended|related|similar|top)\ (?:articles?|content
    |from|links?|news|on\ this\ topic|posts?|reading|stories|topics|tutorials?|videos?)
    | recommended\ for\ you | read\ next | up\ next | most\ (?:popular|read|viewed) | trending
    | (?:leave|post|write)\ a\ (?:comment|reply) | (?:\d+\ )?(?:comments?|replies|responses?)\b
    | share\ (?:on|this|via) | about\ the\ author | (?:also\ )?read\ (?:also|more) | also\ read
    | tagged\b | tags\b | keep\ reading | find\ more
    # German
    | das\ könnte\ (?:dich|euch|ihnen|sie) | auch\ interessant | passend\ dazu
    | (?:ähnliche|aktuelle|andere|beliebte(?:ste)?|letzte|mehr|neueste|verwandte|weitere)
    \ (?:aktuelle|artikel|beiträge|kommentare|meldungen|nachrichten|news|themen)
    | mehr\ (?:aus|von|über|zu|zum)\b | am\ meisten\ gelesen | top-?themen
    | meist-?\ ?(?:diskutiert|gelesen|kommentiert) | lesen\ sie\ auch | auch\ lesen
    | (?:zum\ )?weiterlesen | kommentare\b | kommentar\ (?:hinterlassen|schreiben|verfassen)
    | schreibe?\ einen\ kommentar | hinterlasse\b | (?:artikel\ )?teilen\b | über\ d(?:en|ie)\ autor
    | schlagw(?:ort|örter) | markiert\b | themen\b
    # French
    | à\ découvrir | à?\ ?lire\ aussi | voir\ aussi | les\ plus\ lus | sur\ le\ même | partager\b
    | articles?\ (?:connexes|les\ plus|liés|récents|similaires) | laisser\ un\ commentaire
    # Spanish, Portuguese, Italian, Dutch
    | (?:les?|te)\ puede\ interesar | también\ te | (?:artículos|noticias|notas)\ relacionad[ao]s
    | lo\ más\ (?:leído|visto) | deja\ (?:tu|un)\ comentario | compartir\b | lea\ también
    | leia\ (?:mais|também) | veja\ também | notícias\ relacionadas
    | leggi\ anche | articoli\ correlati | potrebbe\ interessarti | lascia\ un\ commento
    | gerelateerde?\b | lees\ ook
    # Polish, Russian, Chinese, Japanese
    | (?:czytaj|przeczytaj|zobacz)\ (?:także|też|również|więcej) | polecamy\b | powiązane\b
    | najczęściej\b | najnowsze\b | komentarze\b | udostępnij\b
    | читайте\ также | похожие\b | по\ теме\b | комментарии\b
    | 热门推荐 | 相关(?:文章|新闻|推荐|阅读) | 推荐阅读 | おすすめ | 関連記事
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Beginning of the titles of parts that lead to other pages, in the languages of the evaluation and
some more."""


def part_of(node: LexborNode, tag: str) -> Part:
    """Return what an element is, if ``MAY_BE_PARTS`` has its tag."""
    attributes = node.attributes
    part = _TAGS.get(tag, Part.CONTENT)
    if tag == "footer" and node.parent is not None and node.parent.tag in _QUOTATIONS:
        part = Part.CONTENT
    if role := attributes.get("role"):
        part = max(part, _ROLES.get(role, part))
    classes, name = attributes.get("class") or "", attributes.get("id") or ""
    named = _part_by_name(classes[:_MAX_NAME_CHARS]) if classes else None
    # Generators of documentation give a section the id of its heading, which may say anything.
    if named is None and name and "section" not in (classes or tag) and "level" not in classes:
        named = _part_by_name(name[:_MAX_NAME_CHARS])
    return part if named is None else max(part, named)


@lru_cache(4096)
def _part_by_name(name: str) -> Part | None:
    """Return what an element's classes or id say that it is; None if they say nothing."""
    lower = _CAMEL.sub("-", name).lower()
    if _CONTENT_NAMES.search(lower):
        return Part.CONTENT
    if _FURNITURE.search(lower):
        return Part.FURNITURE
    if _PAGE.search(lower):
        return Part.PAGE
    return Part.LINKS if _LINKS.search(lower) else None


def leads_elsewhere(title: str) -> bool:
    """Whether a title says that links to other pages, or comments, follow."""
    return _TITLES.match(title) is not None
