"""What was typed becomes plain data: phrases, prefixes, titles and words, within limits."""

from hypothesis import given
from hypothesis import strategies as st

from retrieval.store.disk.lexical.analysis import plain_terms
from retrieval.store.lexical.folding import word_count
from retrieval.store.lexical.query import (
    MAX_PHRASE_WORDS,
    MAX_SPECIAL,
    Phrase,
    Prefix,
    Terms,
    parse_lexical_query,
)


def test_a_query_is_taken_apart() -> None:
    query = parse_lexical_query(
        'find "the hive" conf* title:bees title:"quick start" title:inst* "the hive"'
    )
    assert query.text == "find the hive the hive"
    assert query.left_over == 0
    assert query.clauses == (
        Phrase("the hive", (("words", 1.0), ("title", 0.25)), outranks_words=True),
        Phrase("quick start", (("title", 1.0),), outranks_words=False),
        Prefix("words", ("conf",), False, 1.0),
        Prefix("title", ("conf",), False, 0.25),
        Prefix("title", ("inst",), False, 1.0),
        Terms("title", "bees", 1.0),
        Terms("words", "find the hive the hive", 1.0),
        Terms("title", "find the hive the hive", 0.25),
        Terms("identifiers", "find the hive the hive", 0.5),
    )


def test_prefixes_have_a_form_with_the_parts_of_camel_case() -> None:
    (prefix, *_) = parse_lexical_query("getUser*").clauses
    assert prefix == Prefix("words", ("getUser", "get User"), False, 1.0)
    (prefix, *_) = parse_lexical_query("os.path.*").clauses
    assert prefix == Prefix("words", ("os path ",), True, 1.0)


def test_a_phrase_of_one_word_is_that_word() -> None:
    assert parse_lexical_query('"hive"').clauses == parse_lexical_query("hive").clauses
    assert parse_lexical_query('title:"hive"').clauses == (Terms("title", "hive", 1.0),)
    assert parse_lexical_query('"" title: *').clauses == parse_lexical_query("title: *").clauses


def test_beyond_the_limits_all_are_words() -> None:
    phrases = [f"bee {number}" for number in range(MAX_SPECIAL + 2)]
    query = parse_lexical_query(" ".join(f'"{one}"' for one in phrases) + " conf* title:hive")
    found = [clause for clause in query.clauses if isinstance(clause, Phrase)]
    assert [phrase.text for phrase in found] == phrases[:MAX_SPECIAL]
    assert query.text == " ".join([*phrases, "conf", "hive"])
    assert query.left_over == 4
    assert not any(isinstance(clause, Prefix) for clause in query.clauses)
    last = parse_lexical_query(" ".join(f"word{n}*" for n in range(MAX_SPECIAL)) + " word0*")
    assert sum(isinstance(clause, Prefix) for clause in last.clauses) == 2 * MAX_SPECIAL
    assert (last.text, last.left_over) == ("", 0)
    long = "aa bb " * MAX_PHRASE_WORDS
    assert parse_lexical_query(f'"{long}"').left_over == 1


LONG = st.just("x" * 129)
WORDS = (
    st.text(max_size=12)
    | st.sampled_from(["｜ |", "東京タワー", "getUserName", "Ⅷ ½", "\x00"])
    | LONG
)


@given(st.lists(WORDS, max_size=6))
def test_words_are_counted_as_the_engine_cuts_them(words: list[str]) -> None:
    text = " ".join(words)
    assert word_count(text) == len(plain_terms(text))
