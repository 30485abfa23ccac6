"""Rules of the URIs that clients may give to documents.

A URI is a name in an index, and never a path on the server. The rules keep URIs apart that people
would take for one another, and make prefixes such as ``tickets/`` mean what they seem to.
"""

import re
import unicodedata
from typing import Final

from retrieval.errors import InvalidArgument

MAX_CHARS: Final = 1024
"""As the contract says. Long enough for addresses on the web."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHOWN_CHARS: Final = 80
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Controls, lone surrogates, and separators of lines and paragraphs."""
_DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Controls that make a text look like another one."""


def check_uri(uri: str, *, field: str = "uri") -> None:
    """Refuse a text that can't be the URI of a document that is put.

    Args:
        uri: what the client gave.
        field: the request's field with it, for the error.

    Raises:
        InvalidArgument: the message says which rule it breaks.
    """
    if problem := _problem(uri):
        raise InvalidArgument(f"{field} {_shown(uri)} {problem}", field=field)


def check_prefix(prefix: str, *, field: str = "uri_prefix") -> None:
    """Refuse a text that no URI can begin with, and the empty one, which all begin with.

    Raises:
        InvalidArgument: the message says why.
    """
    if not prefix:
        raise InvalidArgument(
            f"{field} is empty, and would select every document: give the start of their URIs",
            field=field,
        )
    if problem := _problem_of_chars(prefix):
        raise InvalidArgument(f"{field} {_shown(prefix)} {problem}", field=field)


def _problem(uri: str) -> str:
    """Return what is wrong with a URI; empty if nothing is."""
    if not uri.strip():
        return "is blank: give the document a name, such as tickets/4711"
    if problem := _problem_of_chars(uri):
        return problem
    scheme = _SCHEME.match(uri)
    path = uri[scheme.end() :] if scheme else uri
    parts = path.split("/")
    if scheme and not parts[0]:
        return "has nothing after its scheme"
    if not scheme and "" in parts:
        return 'has an empty part: it may neither begin nor end with "/", nor contain "//"'
    for part in parts:
        if part in (".", ".."):
            return f'has the part "{part}": give the document its own name'
    return ""


def _problem_of_chars(text: str) -> str:
    if len(text) > MAX_CHARS:
        return f"has {len(text)} characters; it may have at most {MAX_CHARS}"
    if text.isascii() and text.isprintable():
        return ""
    for char in text:
        if unicodedata.category(char) in _REFUSED_CATEGORIES or char in _DIRECTIONS:
            return f"contains the control character U+{ord(char):04X}"
    return ""


def _shown(uri: str) -> str:
    """Return a URI as errors quote it: short, and without characters that can't be seen."""
    return repr(uri if len(uri) <= _SHOWN_CHARS else uri[:_SHOWN_CHARS] + "…")
