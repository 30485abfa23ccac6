"""Find what an HTML page hides: text that no reader sees, whether or not they open every part.

Hidden are elements with the attribute ``hidden``, with ``display: none`` or ``visibility: hidden``
in their style or by a rule of the page for a class or an id, and elements whose class says that
they are for assistive programs only. Collapsed parts that a reader can open are not hidden: answers
in accordions, panels of tabs, and whatever a control on the page names as its target.
"""

import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborNode

from indexer.parse.base.outline import words

_CANDIDATES: Final = (
    "[hidden],[popover],[style*=display],[style*=visibility],dialog:not([open]),"
    "[class*=sr-only],[class*=visually],[class*=screen-reader],[class*=d-none],[class*=katex-html]"
)
_INVISIBLE: Final = re.compile(
    r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))(?![\w-])",
    re.IGNORECASE,
)
_NOT_SHOWN: Final = words(
    """
    d-none element-invisible katex-html screen-reader-only screen-reader-text sr-only
    visually-hidden visuallyhidden
    """
)
"""Classes that common style sheets hide; ``katex-html`` repeats a formula letter by letter."""
_SHOWN_WIDE: Final = re.compile(r"(?:^|\s)d-(?:sm|md|lg|xl|xxl)-(?!none)")
"""Bootstrap's classes of what is hidden on small screens only."""

_CONTROLS: Final = "[aria-controls],[data-target],[data-bs-target],[popovertarget],[data-toggle]"
_TARGETS: Final = (
    "aria-controls",
    "data-target",
    "data-bs-target",
    "popovertarget",
    "href",
)
_OPENABLE: Final = re.compile(
    r"accord|collaps|expand|toggle|spoiler|faq|answer|slide|gallery|tab-?(?:pane|content|panel)|panel-",
    re.IGNORECASE,
)
"""Names of collapsed parts, in classes and ids."""

_HIDING: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SHOWING: Final = re.compile(r"display\s*:\s*(?!none)\w|visibility\s*:\s*visible", re.IGNORECASE)
_SIMPLE: Final = re.compile(r"\s*[a-z]*([.#]-?[a-z_][a-z0-9_-]*)\s*", re.IGNORECASE)
_COMMENT: Final = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_MAX_NAMES: Final = 64
"""Maximum number of classes and ids that rules hide: each is looked for in all rules."""


def hidden_in(root: LexborNode) -> list[LexborNode]:
    """Return the elements that hide their content."""
    candidates = root.css(_CANDIDATES)
    names = _hiding_names(root)
    if names:
        candidates += root.css(",".join(sorted(names)))
    if not candidates:
        return []
    targets = _targets(root)
    return [
        node for node in candidates if _is_hidden(node, names) and not _can_be_opened(node, targets)
    ]


def _is_hidden(node: LexborNode, names: frozenset[str]) -> bool:
    tag = node.tag or ""
    if tag in {"html", "body"} or node.css_first("main,article") is not None:
        return False
    attributes = node.attributes
    if "hidden" in attributes and attributes["hidden"] != "until-found":
        return True
    if "popover" in attributes or tag == "dialog":
        return True
    if _INVISIBLE.search(attributes.get("style") or ""):
        return True
    classes = attributes.get("class") or ""
    own = classes.split()
    if "#" + (attributes.get("id") or "") in names or any("." + name in names for name in own):
        return True
    is_label = tag in {"caption", "h1", "h2", "h3", "h4", "h5", "h6", "legend"}
    return not is_label and not _NOT_SHOWN.isdisjoint(own) and not _SHOWN_WIDE.search(classes)


def _can_be_opened(node: LexborNode, targets: frozenset[str]) -> bool:
    """Whether a reader can make the element visible, by the names and controls of the page."""
    attributes = node.attributes
    identity = attributes.get("id") or ""
    if attributes.get("role") == "tabpanel" or identity in targets:
        return True
    if _OPENABLE.search(f"{identity} {attributes.get('class') or ''}"):
        return True
    before = node.prev
    while before is not None and not before.is_element_node:
        before = before.prev
    return before is not None and before.css_first("[aria-expanded]") is not None


def _targets(root: LexborNode) -> frozenset[str]:
    """Return the ids of the elements that controls of the page open."""
    found: set[str] = set()
    for control in root.css(_CONTROLS):
        attributes = control.attributes
        for name in _TARGETS:
            found.update(part.lstrip("#") for part in (attributes.get(name) or "").split())
    found.discard("")
    return frozenset(found)


def _hiding_names(root: LexborNode) -> frozenset[str]:
    """Return the selectors, of one class or id each, that the page's own style sheets hide."""
    names: set[str] = set()
    for style in root.css("style"):
        css = style.text(deep=True)
        if "none" in css or "hidden" in css:
            css = _COMMENT.sub("", css)
            hiding = set(_names_of_rules(css))
            names |= {
                name for name in sorted(hiding)[:_MAX_NAMES] if not _is_shown_elsewhere(css, name)
            }
    return frozenset(sorted(names)[:_MAX_NAMES])


def _names_of_rules(css: str) -> Iterator[str]:
    """Yield the selectors of one class or id of the rules that hide, outside of other rules."""
    depth = end = 0
    for found in _HIDING.finditer(css):
        start = css.rfind("{", end, found.start())
        if start < 0:
            continue  # in the rule before, or malformed
        before = max(css.rfind(mark, end, start) for mark in "{};") + 1 or end
        depth += css.count("{", end, start) - css.count("}", end, start)
        end = css.find("}", found.end()) + 1 or len(css)
        if depth == 0:
            for selector in css[before:start].split(","):
                if simple := _SIMPLE.fullmatch(selector):
                    yield simple[1]


def _is_shown_elsewhere(css: str, name: str) -> bool:
    """Whether another rule shows what a class or id hides, for instance in another state."""
    position = css.find(name)
    while position >= 0:
        start = css.find("{", position) + 1 or len(css)
        end = css.find("}", start) + 1 or len(css)
        if _SHOWING.search(css, start, end):
            return True
        position = css.find(name, end)
    return False
