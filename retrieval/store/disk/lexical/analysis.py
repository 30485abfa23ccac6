"""tantivy's analyzers, which turn folded words of passages and queries into terms.

Each of the three forms of a text (``retrieval.store.lexical.folding``) has its own analyzer and its
own field. The first two forms have a second field for titles.

- words: in lower case, without accents, without stop words, stemmed;
- plain: every word in lower case, without accents, with its position;
- identifiers: in lower case, not stemmed.
"""

from functools import cache
from typing import Final

import tantivy

from retrieval.domain.languages import LANGUAGES
from retrieval.store.lexical.folding import BREAK, MAX_TERM_BYTES, plain_text

VERSION: Final = 3
"""Version of the analysis, including folding. The next build rebuilds a lexical index that was made
with another version."""

_WITHOUT_STOP_WORDS: Final = frozenset({"ar", "el", "ro", "ta", "tr"})
"""Languages for which the engine has a stemmer, but no list of stop words."""


@cache
def words_analyzer(language: str) -> tantivy.TextAnalyzer:
    """Return the analyzer of ``words_of`` a text.

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
    """Return the analyzer of ``plain_of`` a text."""
    return (
        _between_spaces()
        .filter(tantivy.Filter.custom_stopword([BREAK]))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .build()
    )


@cache
def identifiers_analyzer() -> tantivy.TextAnalyzer:
    """Return the analyzer of ``identifiers_of`` a text."""
    return _between_spaces().filter(tantivy.Filter.lowercase()).build()


def _between_spaces() -> tantivy.TextAnalyzerBuilder:
    # The filter keeps only words shorter than its argument.
    longest = tantivy.Filter.remove_long(MAX_TERM_BYTES + 1)
    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(longest)


def plain_terms(text: str) -> list[tuple[int, str]]:
    """Return (position, term) of a text's words in a plain field, without ``camelCase`` parts."""
    tokens = plain_analyzer().pre_tokenize(plain_text(text)).tokens
    return [(token.position, token.text) for token in tokens]
