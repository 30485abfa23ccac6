"""Words, beginnings, phrases and highlights in many scripts."""

import random
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import NoLexicalIndex
from retrieval.search.highlight import highlight
from retrieval.store import Reader, open_reader, open_writer
from retrieval.store.disk.lexical import lexical_index
from retrieval.store.disk.lexical.term_spans import TermFinder
from tests.store.disk.lexical.test_lexical import put, texts_of
from tests.store.test_store import new_writer

FOLDERS = count()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("words")


def index_of(place: Path, texts: Sequence[str], language: str = "none") -> Reader:
    """An index of one document, whose title and headings are ``Q/Q › H › 0`` and so on."""
    folder = place / str(next(FOLDERS))
    with new_writer(folder) as writer:
        with writer.commit() as commit:
            commit.set_language(language)
        put(writer, "q/q", texts)
    return open_reader(folder)


def found(place: Path, query: str, *texts: str, language: str = "none") -> list[str]:
    with index_of(place, texts, language) as reader:
        return texts_of(reader, query, 100)


ENGLISH = (
    "The configuration needs permissions; running it in the café is naïve. The bill of rights. "
    "Call get_user_by_id() of the UserRepository, v1.2.3 or self.os.path.join. inter\u00adnational "
    "Java™ in 1½ hours 私は猫が好きです。値を入力。佐々木 값을 입력"
)


@pytest.fixture(scope="module")
def english(place: Path) -> Iterator[Reader]:
    with index_of(place, [ENGLISH, "nothing of that kind"], "en") as reader:
        yield reader


@pytest.mark.parametrize(
    "query",
    [
        *("configuration", "configuration*", "configur*", "permission*", "permissions*"),
        *("running*", "RUNNING*", "café*", "cafe*", "naïve*", "nai\u0308v*", "UserRepo*"),
        *("userrepo*", "repo*", "getUser*", "get_user*", "get_user_by_id*", "get_*", "v1.2*"),
        *("v1.*", "os.path*", "os.path.*", "path.jo*", "猫", "値", "값", "猫*", "入力*", "佐々木"),
        *("international", "internat*", "java", "hour*", '"bill of rights"'),
        *('"of the UserRepository"', '"it in the"', '"猫が好き"', '"in the café is"'),
    ],
)
def test_what_is_there_is_found_and_highlighted(english: Reader, query: str) -> None:
    assert texts_of(english, query) == [ENGLISH]
    assert TermFinder(query, "en").find(ENGLISH)


@pytest.mark.parametrize(
    ("language", "text", "queries"),
    [
        ("tr", "İstanbul ve DİYARBAKIR, ILICA", "istanbul İSTANBUL diyarbakır ılıca Ilıca"),
        ("none", "İstanbul", "istanbul ISTANBUL i\u0307stanbul İstan*"),
        ("none", "الْعَرَبِيَّةُ ــ كتــاب", "العربية كتاب العر*"),
        ("ar", "وَالْكِتَابُ عَلَى الطَّاوِلَةِ", "والكتاب الطاولة"),
        ("none", "לָלֶכֶת שָׁלוֹם", "ללכת שלום שָׁלוֹם של*"),
        ("none", "ΟΔΟΣ ἄνθρωπος", "οδος ΟΔΟΣ οδός ανθρωποσ Άνθρωπος ανθρ*"),
        ("el", "οι δρόμοι", "δρόμοι ΔΡΟΜΟΙ δρομοι"),
        ("none", "ёлка за\u0301мок чай Київ", "елка замок чай київ Ёлк*"),
        ("none", "हिन्दी में लिखना", "हिन्दी में लिखना हिन्* हि*"),
        ("ta", "தமிழ்நாடு வரவேற்கிறது", "தமிழ்நாடு வரவேற்கிறது"),
        ("none", "বাংলা ভাষার সংস্কৃতি", "বাংলা সংস্কৃতি সংস্*"),
        ("none", "ที่นี่น้ำเย็น", "น้ำ ที่ เย็น เ ที่นี่*"),
        ("none", "ភាសា\u200bខ្មែរ", "ភាសា ខ្មែរ ខ្ ភាសា\u200bខ្មែរ"),
        (
            "none",
            "می\u200cخواهم zero\u200bwidth join\u200der w\u2060ord",
            "میخواهم zerowidth joiner word",
        ),
        ("none", "ﾊﾟｿｺﾝ ＡＢＣ ﬁne", "パソコン パ abc fine ﾊﾟ"),
        ("none", "한국어를 가르치다", "한국어 를 한국*"),
        ("none", "e\u0301tat ŝanĝo ǧ Spın\u0308al", "état etat sango g spinal"),
        ("de", "Die Häuser am Fluß", "haus häuser fluss FLUẞ"),
        ("none", "㎏ 5㎏ ℡", "kg 5 tel"),
        ("none", "葛\U000e0100城", "葛城 葛"),
    ],
)
def test_words_of_many_scripts(place: Path, language: str, text: str, queries: str) -> None:
    with index_of(place, [text, "xyz"], language) as reader:
        for query in queries.split(" "):
            assert texts_of(reader, query) == [text], query
            assert highlight(TermFinder(query, language), text).terms, query


@pytest.mark.parametrize(
    ("query", "text"),
    [
        *(("हिन", "हिन्दी"), ("दी", "हिन्दी"), ("inter", "inter\u00adnational"), ("кит", "кій")),
        *(("ки", "кий"), ("userrep", "UserRepository"), ("get_name*", "get_user_name")),
        *(("v1.2*", "v1.1 v2.2"), ("猫*", "犬"), ("x*", "xyz"), ("os.*", "osx"), ("11", "1½")),
    ],
)
def test_what_is_not_there_is_not_found(place: Path, query: str, text: str) -> None:
    assert found(place, query, text) == []
    assert TermFinder(query, "none").find(text) == []


@pytest.mark.parametrize(
    ("query", "best", "other"),
    [
        ('"bill of rights"', "They passed the bill of rights after a debate.", "Rights, the bill."),
        ('"to be or not to be"', "He said: to be or not to be.", "Not to be or to be"),
        ('"UserRepository class"', "Use the UserRepository class", "class UserRepository"),
        ('"user repository"', "A UserRepository", "repository user"),
        ('"猫が好き"', "私は猫が好きです", "好きが猫"),
        ('"הבית הגדול"', "הַבַּיִת הַגָּדוֹל", "הגדול הבית"),
        ('"page token"', "The page token. " + "Filling that has none of it. " * 40, "token page"),
    ],
)
def test_a_phrase_is_first(place: Path, query: str, best: str, other: str) -> None:
    for texts in ([best, other, f"{other} x " * 3], [f"{other} x " * 3, other, best]):
        assert found(place, query, *texts, language="en")[0] == best


@pytest.mark.parametrize("query", ["0 alpha", "bazqux foo", "bar baz", "foo bar baz"])
def test_no_phrase_goes_across_what_is_apart(place: Path, query: str) -> None:
    """Title and text; a text and the parts of its words; the parts of two words."""
    text = "alpha fooBar bazQux"
    with index_of(place, [text]) as reader:
        phrase, words = (reader.search_lexical(one, 1).scores for one in (f'"{query}"', query))
        assert phrase.tolist() == words.tolist()
        assert (
            reader.search_lexical('"foo bar"', 1).scores
            > reader.search_lexical("foo bar", 1).scores
        )
    assert {text[start:end] for start, end, _ in TermFinder('"foo bar"', "none").find(text)} == {
        "fooBar"
    }


def test_every_word_that_begins_so_is_found(place: Path) -> None:
    texts = [f"config{number:03} of it" for number in range(200)]
    with index_of(place, [*texts, "other"]) as reader:
        assert set(texts_of(reader, "config*", 300)) == set(texts)
        assert set(texts_of(reader, "of_i*", 300)) == set(texts)
        for text in (texts[7], texts[199]):
            ids = reader.search_lexical(text.split()[0], 1).vector_ids
            assert len(reader.score_texts_of_vectors("conf*", ids).vector_ids) == 1


@pytest.mark.parametrize("name", ["_MAX_LAST_WORDS", "_MAX_LAST_PLACES"])
def test_many_last_words_of_a_beginning(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(lexical_index, name, 1)
    texts = ["get_user", "get_username", "user", "get"]
    assert set(found(place, "get_user*", *texts)) == set(texts[:2])


def test_words_that_begin_so_count_the_more_often_they_are_there(place: Path) -> None:
    texts = ["config x x x", "config config config x", "configurations x y z"]
    ranked = found(place, "config*", *texts)
    assert ranked[0] == texts[1]
    assert set(ranked) == set(texts)


def test_words_too_long_for_the_index(place: Path) -> None:
    longest, too_long = "x" * 128, "y" * 129
    text = f"{longest} begin {too_long} end it"
    with index_of(place, [text, "end it begin"]) as reader:
        assert texts_of(reader, longest) == [text]
        assert texts_of(reader, too_long) == []
        assert texts_of(reader, f'"begin {too_long} end it"')[0] == text
        assert len(texts_of(reader, f'"{too_long} end it"')) == 2
        assert texts_of(reader, f"{longest}*") == [text]
        assert texts_of(reader, f"{too_long}*") == []


# Letters of any script, each with a mark after it or none.
_LETTERS = st.characters(categories=["Lu", "Ll", "Lo"])
_MARKS = st.sampled_from(["\u0301", "\u064b", "\u05b0", "\u093f", "\u094d", "\u00ad", "\u200d", ""])
_ANY_WORD = st.lists(st.tuples(_LETTERS, _MARKS).map("".join), min_size=2, max_size=8).map("".join)
_LATIN = ["the", "of", "to", "getUserName", "HTTPServer", "os", "naïve", "Häuser", "v1", "2024"]
_OTHERS = ["ΟΔΟΣ", "שָׁלוֹם", "الْعَرَبِيَّةُ", "हिन्दी", "தமிழ்", "猫", "東京", "タワー", "값을", "น้ำ", "ёлка"]
_ODD = ["inter\u00adnational", "İzmir", "ﬁne", "ǆez", "Java™"]
_KNOWN_WORDS = st.sampled_from([*_LATIN, *_OTHERS, *_ODD])
_SEPARATORS = st.sampled_from([" ", ", ", "\n", " — ", "! "])


def beginnings(word: str) -> list[str]:
    """Of two whole characters or more: a mark may be one with the letter before it."""
    whole = unicodedata.normalize("NFKC", word)
    starts = [at for at, one in enumerate(whole) if unicodedata.category(one).startswith("L")]
    return [whole[:end] for end in (*starts[2:], len(whole))] if len(starts) > 1 else []


@given(words=st.lists(_ANY_WORD | _KNOWN_WORDS, min_size=1, max_size=8), data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_word_and_beginning_is_found(
    place: Path, words: list[str], data: st.DataObject
) -> None:
    text = "".join(one + data.draw(_SEPARATORS) for one in words)
    with index_of(place, [text, "…"]) as reader:
        for word in words:
            for query in (word, *(f"{one}*" for one in beginnings(word))):
                assert text in texts_of(reader, query), query
                assert TermFinder(query, "none").find(text), query


@given(
    texts=st.lists(st.lists(_KNOWN_WORDS, min_size=2, max_size=8), min_size=2, max_size=8),
    language=st.sampled_from(["en", "none"]),
    size=st.integers(2, 4),
)
@settings(max_examples=20, deadline=None)
def test_any_phrase_is_first(place: Path, texts: list[list[str]], language: str, size: int) -> None:
    phrases = {tuple(one[at : at + size]) for one in texts for at in range(len(one) - size + 1)}
    with index_of(place, list({" ".join(one): None for one in texts}), language) as reader:
        for phrase in phrases:
            query = f'"{" ".join(phrase)}"'
            having = []
            for text in texts_of(reader, query, 100):
                words = text.split(" ")
                places = range(len(words) - size + 1)
                having.append(any(tuple(words[at : at + size]) == phrase for at in places))
                assert TermFinder(query, language).find(text)
            assert having[0], query
            assert having == sorted(having, reverse=True), query


@given(
    text=st.text(max_size=80),
    queries=st.lists(st.text(max_size=20), min_size=3, max_size=10),
    language=st.sampled_from(["en", "tr"]),
)
@settings(max_examples=20, deadline=None)
def test_what_is_found_by_words_is_highlighted(
    place: Path, text: str, queries: list[str], language: str
) -> None:
    text, *queries = (one.encode(errors="ignore").decode() for one in (text, *queries))
    with index_of(place, [f"{text}."], language) as reader:
        for at, query in enumerate(queries):
            finder = TermFinder(f"{query} {text[5 * at : 5 * at + 9]}", language)
            spans = finder.find(f"{text}.")
            is_found = bool(texts_of(reader, f"{query} {text[5 * at : 5 * at + 9]}"))
            assert is_found == bool(spans) or finder.find("Q/Q › H › 0")
            assert all(0 <= start < end <= len(text) for start, end, _ in spans)


@pytest.mark.parametrize(
    ("query", "text", "terms"),
    [
        ("العربية", "هي الْعَرَبِيَّةُ.", "الْعَرَبِيَّةُ"),
        ("हिन्दी", "यह हिन्दी है", "हिन्दी"),
        ("international", "an inter\u00adnational one", "inter\u00adnational"),
        ("猫", "私は猫が好き", "猫"),
        ('"bill of rights"', "the bill of rights, of all", "bill|of|rights"),
        ('"to be"', "to do, to be, be", "to|be"),
        ("get_user*", "call self.get_username()", "get|username"),
        ("パソコン", "この ﾊﾟｿｺﾝ は", "ﾊﾟｿｺﾝ"),
        ("état", "un e\u0301tat", "e\u0301tat"),
        ("conf*", "reconf conf", "conf"),
        ("java", "Java™", "Java"),
        ("東京タワー", "東京タワーと東京", "東京タワー|東京"),
    ],
)
def test_places_are_those_of_the_text(query: str, text: str, terms: str) -> None:
    shown = highlight(TermFinder(query, "en"), text).terms
    assert "|".join(text[start:end] for start, end in shown) == terms


@pytest.mark.parametrize(
    "sample",
    [
        *("word. ", "a ", "猫が好き。", "ﾊﾟｿｺﾝ，", "שָׁלוֹם ", "inter\u00adnational ", "हिन्दी ", "\n"),
        *("x", "a a a b ", "fooBarBaz ", "get_user ", "naïve\n\n", "e\u0301", "e\u0301."),
    ],
)
def test_highlighting_takes_time_linear_in_the_text(sample: str) -> None:
    query = f'{sample} "{sample * 20}x" a* "a a a a" 猫 get_user word'.replace("\n", " ")
    size = 200_000
    text = (sample * size)[:size]
    started = time.process_time()
    highlight(TermFinder(query, "en"), text)
    assert time.process_time() - started < 5  # half a second or so; squared, it would be hours


def test_a_long_text_of_different_words_is_highlighted_soon() -> None:
    generator = random.Random(0)
    words = ("".join(generator.choices("abcdefghij", k=7)) for _ in range(60_000))
    started = time.process_time()
    assert highlight(TermFinder("abcd* needle", "en"), ". ".join([*words, "needle"])).sentence
    assert time.process_time() - started < 5


def test_words_of_an_older_analysis_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with new_writer(folder) as writer:
        put(writer, "d/a", ["the bill of rights"])
    with closing(sqlite3.connect(folder / "index.db")) as connection, connection:
        connection.execute("UPDATE lexical_index SET analysis = analysis - 1")
    with open_reader(folder) as reader:
        assert not reader.has_lexical_index
        with pytest.raises(NoLexicalIndex, match=r"older version.*indexer build"):
            reader.search_lexical("bill", 1)
    with open_writer(folder) as writer:
        assert writer.lexical_is_due
        writer.maintain()
    with open_reader(folder) as reader:
        assert texts_of(reader, '"bill of"') == ["the bill of rights"]
