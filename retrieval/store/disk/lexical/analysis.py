"""tantivy's analyzers: how folded words become terms, in passages and queries alike.

The three forms of a text (``retrieval.store.lexical.folding``) go through three analyses. Each has
a field of its own; the first two have a second one for titles.

- words: lower case, without accents, without stop words, stemmed;
- plain: every word in lower case and without accents, with its position;
- identifiers: lower case, nothing stemmed.
"""

from functools import cache
from typing import Final

import tantivy

from retrieval.domain.languages import LANGUAGES
from retrieval.store.lexical.folding import BREAK, MAX_TERM_BYTES, plain_text

VERSION: Final = 3
"""Of the analysis, folding included: a lexical index made by another version is made anew by the
next build."""

_WITHOUT_STOP_WORDS: Final = frozenset({"ar", "el", "ro", "ta", "tr"})
"""Languages that the engine has a stemmer for, but no list of stop words."""


@cache
def words_analyzer(language: str) -> tantivy.TextAnalyzer:
    """Return what cuts ``words_of`` a text into terms.

    Args:
        language: a key of ``LANGUAGES``, or ``NO_LANGUAGE``.
    """
    builder = _between_spaces().filter(tantivy.Filter.lowercase())
    if language in LANGUAGES and language not in _WITHOUT_STOP_WORDS:
        builder = builder.filter(tantivy.Filter.stopword(LANGUAGES[language]))
    builder = builder.filter(tantivy.Filter.ascii_fold())
    if language in LANGUAGES:
        builder = builder.filter(tantivy.Filter.stemmer(LANGUAGES[language]))
    return builder.build()


@cache
def plain_analyzer() -> tantivy.TextAnalyzer:
    """Return what cuts ``plain_of`` a text into terms."""
    return (
        _between_spaces()
        .filter(tantivy.Filter.custom_stopword([BREAK]))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .build()
    )


@cache
def identifiers_analyzer() -> tantivy.TextAnalyzer:
    """Return what cuts ``identifiers_of`` a text into terms."""
    return _between_spaces().filter(tantivy.Filter.lowercase()).build()


def _between_spaces() -> tantivy.TextAnalyzerBuilder:
    # The filter keeps what is shorter than it is told.
    longest = tantivy.Filter.remove_long(MAX_TERM_BYTES + 1)
    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(longest)


def plain_terms(text: str) -> list[tuple[int, str]]:
    """Return the words of a text, without parts, as a plain field has them: (position, term)."""
    tokens = plain_analyzer().pre_tokenize(plain_text(text)).tokens
    return [(token.position, token.text) for token in tokens]
