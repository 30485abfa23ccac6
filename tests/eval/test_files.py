"""Files of test queries and judgements: every form, and errors that name the line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument
from retrieval.eval.sets.judgements import MAX_GRADE, load_judgements, read_judgements
from retrieval.eval.sets.queries import TestQuery, load_queries, load_test_set


def test_beir_trec_and_tab_files(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "1", "text": "one"}\n{"_id": "2", "text": "two"}\n{"_id": "3", "text": "three"}\n'
    )
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n3\td 3\t1\n9\td1\t1\n"
    )
    expected = [TestQuery("1", "one", {"d1": 2}, {}), TestQuery("3", "three", {"d 3": 1}, {})]
    assert load_queries(tmp_path) == expected
    (tmp_path / "topics.tsv").write_text("1\tone\n3\tthree\n")
    (tmp_path / "trec.txt").write_text("1 0 d1 2\n1 0 d2 -1\n3 Q0 d3 1\n")
    queries = load_queries(tmp_path / "topics.tsv", tmp_path / "trec.txt")
    assert [query.documents for query in queries] == [{"d1": 2}, {"d3": 1}]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(
        '{"query": "a", "document": ["x", "y"]}\n\n{"id": "n", "query": "b", "passage": "text"}\n'
    )
    assert load_queries(path) == [
        TestQuery("1", "a", {"x": 1, "y": 1}, {}),
        TestQuery("n", "b", {}, {"text": 1}),
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "no queries"),
        ("not json", "line 1: not JSON"),
        ("[1]", "not a JSON object"),
        ('{"text": "x"}', '"query" is missing; give --qrels'),
        ('{"query": 1, "document": "x"}', '"query" must be a text'),
        ('{"query": " ", "document": "x"}', '"query" must be a text'),
        ('{"query": "x", "document": "y", "id": [1]}', '"id" must be a text or a whole number'),
        ('{"query": "x"}', "to find"),
        ('{"query": "x", "document": [1]}', "a text or a list of texts"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match=what):
        load_queries(path)


def test_judgements_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "queries.tsv").write_text("1\tone\n")
    (tmp_path / "qrels").write_text("1 0 d1 1\n2 0 d2 low\n")
    with pytest.raises(InvalidArgument, match="line 2: not a judgement"):
        load_queries(tmp_path / "queries.tsv", tmp_path / "qrels")
    (tmp_path / "qrels").write_text("1 0 d1 0\n")
    with pytest.raises(InvalidArgument, match="no query of"):
        load_queries(tmp_path / "queries.tsv", tmp_path / "qrels")
    with pytest.raises(InvalidArgument, match="can't read"):
        load_queries(tmp_path / "queries.tsv", tmp_path / "absent")


def write_beir(folder: Path, *, queries: str, qrels: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "queries.jsonl").write_bytes(queries.encode())
    (folder / "qrels" / "test.tsv").write_bytes(qrels.encode())
    return folder


ONE_QUERY = '{"_id": "1", "text": "one"}\n'


@pytest.mark.parametrize(
    "qrels",
    [
        "query-id\tcorpus-id\tscore\n1\td 1\t2\n",
        "1\td 1\t2\n",
        "query-id\tcorpus-id\tscore\r\n1\td 1\t2\r\n\r\n",
        "\ufeffquery-id\tcorpus-id\tscore\n1\td 1\t2",
        "\ufeff1\td 1\t2",
        "1\t0\td 1\t2\n",
        "\n\nquery_id\titeration\tdoc_id\trelevance\n1\tQ0\td 1\t2\n",
        "1\td 1\t2.0\n1\td2\t-2\n1\td3\t0\n1\td4\t-1.0\n",
        "1 \t d 1\t+2\n",
    ],
    ids=[
        "heading",
        "no heading",
        "CRLF",
        "byte order mark",
        "byte order mark, no heading",
        "four columns",
        "four columns with a heading",
        "grades of 0 and less",
        "spaces around",
    ],
)
def test_forms_of_judgements(tmp_path: Path, qrels: str) -> None:
    folder = write_beir(tmp_path, queries=ONE_QUERY, qrels=qrels)
    tests = load_test_set(folder)
    assert tests.queries == [TestQuery("1", "one", {"d 1": 2}, {})]
    assert tests.notes == ()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1\td1", "it has 2 columns"),
        ("1 0 d1 1 0.5 run", "it has 6 columns"),
        ("word", "it has 1 column;"),
        ("1\td1\thigh", "whole number, not 'high'"),
        ("1\td1\t0.5", "whole number, not '0.5'"),
        ("1\td1\t²", "whole number"),
        ("1\td1\tnan", "whole number"),
        ("1\td1\t1e3", "whole number"),
        ("1\td1\t" + "9" * 5000, "whole number"),
        (f"1\td1\t{MAX_GRADE + 1}", f"at most {MAX_GRADE}"),
        ("1\t\t1", "the query or the document is empty"),
        ("\td1\t1", "the query or the document is empty"),
    ],
)
@pytest.mark.parametrize("before", ["", "query-id\tcorpus-id\tscore\n\n1\td0\t1\n"])
def test_lines_that_are_no_judgement(tmp_path: Path, before: str, line: str, what: str) -> None:
    path = tmp_path / "test.tsv"
    path.write_text(f"{before}{line}\n1\td9\t1\n")
    number = before.count("\n") + 1
    with pytest.raises(InvalidArgument, match="not a judgement") as raised:
        read_judgements(path)
    assert f"{path}, line {number}: " in raised.value.message
    assert what in raised.value.message
    assert len(raised.value.message) < 500


def test_a_first_line_that_is_damaged_is_no_heading(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 d1 high\n1 0 d2 1\n")
    with pytest.raises(InvalidArgument, match="line 1: not a judgement"):
        load_judgements(tmp_path / "qrels")


def test_repeated_and_contradicting_judgements_are_told(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("1 0 d1 1\n1 0 d1 1\n1 0 d2 0\n1 0 d2 3\n1 0 d2 1\n2 0 d3 2\n2 0 d3 0\n")
    judgements = read_judgements(path)
    assert judgements.grades == {"1": {"d1": 1, "d2": 3}, "2": {"d3": 2}}
    assert judgements.notes == (
        f"{path}: 1 line repeats a judgement (line 2)",
        f"{path}: 3 lines contradict earlier ones (lines 4, 5, 7); the higher grade counts",
    )


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    queries = ONE_QUERY + '{"_id": "2", "text": "two"}\n{"_id": "3", "text": "three"}\n' + ONE_QUERY
    folder = write_beir(tmp_path, queries=queries, qrels="1\td1\t1\n2\td1\t0\n8\td1\t1\n9\td1\t1\n")
    tests = load_test_set(folder)
    assert [query.id for query in tests.queries] == ["1"]
    qrels = folder / "qrels" / "test.tsv"
    assert tests.notes == (
        "1 repeated query left out",
        f"2 of 3 queries have no relevant document in {qrels} and are not asked",
        f"{qrels} judges 2 queries that queries.jsonl does not have: 8, 9",
    )


def test_a_folder_without_test_judgements_names_the_others(tmp_path: Path) -> None:
    folder = write_beir(tmp_path, queries=ONE_QUERY, qrels="1\td1\t1\n")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
    with pytest.raises(InvalidArgument, match=r"qrels has dev\.tsv: choose with --qrels"):
        load_test_set(folder)
    assert len(load_queries(folder, folder / "qrels" / "dev.tsv")) == 1
    (folder / "qrels" / "dev.tsv").unlink()
    with pytest.raises(InvalidArgument, match=r"can't read .*test\.tsv: no such file$"):
        load_test_set(folder)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"_id": "1", "text": "another"}', "another query with the id '1' is on line 1"),
        ('{"_id": "2"}', "not JSON with _id and text"),
        ('{"text": "two"}', "not JSON with _id and text"),
        ('{"_id": "2", "text": " "}', "the text must be a text"),
        ('{"_id": "2", "text": 2}', "the text must be a text"),
        ('{"_id": {}, "text": "two"}', '"_id" must be a text or a whole number'),
        ('{"_id": true, "text": "two"}', '"_id" must be a text or a whole number'),
        ('{"_id": "2", "text": "half of a pair: \\ud83d"}', "not valid Unicode"),
        ('{"_id": "2", "text": "cut', "not JSON"),
        ("{" * 100_000, "not JSON"),
        ('{"_id":' + "[" * 100_000, "not JSON"),
        ("2", "not JSON with _id and text, nor id, tab and text"),
        ("2\t ", "not JSON with _id and text, nor id, tab and text"),
    ],
)
def test_lines_that_are_no_query(tmp_path: Path, line: str, what: str) -> None:
    folder = write_beir(tmp_path, queries=ONE_QUERY + "\n" + line + "\n", qrels="1\td1\t1\n")
    with pytest.raises(InvalidArgument) as raised:
        load_test_set(folder)
    assert f"{folder / 'queries.jsonl'}, line 3: " in raised.value.message
    assert what in raised.value.message


def test_queries_of_other_shapes(tmp_path: Path) -> None:
    text = "line\u2028separator, next\u0085line and form\ffeed"
    lines = ['\ufeff{"_id": 1, "text": "' + text.replace("\f", "\\f") + '"}', "2\ttab\tinside "]
    queries = "\r\n".join([*lines, ""])
    folder = write_beir(tmp_path, queries=queries, qrels="1\td\t1\n2\td\t1\n")
    assert [(one.id, one.text) for one in load_queries(folder)] == [
        ("1", text),
        ("2", "tab\tinside"),
    ]


def test_an_id_of_ones_own_may_not_be_the_number_of_another_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": 2, "query": "a", "document": "x"}\n{"query": "b", "document": "y"}\n')
    with pytest.raises(InvalidArgument, match="line 2: another query with the id '2' is on line 1"):
        load_queries(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'{"query": "a", "document": "x"}\n{"query": "caf\xe9", "document": "x"}\n')
    with pytest.raises(InvalidArgument, match="line 2: not UTF-8"):
        load_queries(path)


@given(data=st.data())
@settings(max_examples=100)
def test_judgements_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    queries = st.text("abc123-_.", min_size=1, max_size=5)
    documents = st.text("xyz/ é#", min_size=1, max_size=6).filter(lambda name: name == name.strip())
    of_query = st.dictionaries(documents, st.integers(-5, 5), min_size=1, max_size=5)
    grades = data.draw(st.dictionaries(queries, of_query, min_size=1, max_size=5))
    middle = data.draw(st.sampled_from(["", "\t0"]))
    rows = [f"{q}{middle}\t{d}\t{g}" for q, of in grades.items() for d, g in of.items()]
    heading = data.draw(st.sampled_from([[], ["query-id\tcorpus-id\tscore"]]))
    line_end = data.draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    path = tmp_path_factory.getbasetemp() / "read_back.tsv"
    text = data.draw(st.sampled_from(["", "\ufeff"])) + line_end.join([*heading, *rows])
    path.write_bytes(text.encode())
    above = {q: {d: g for d, g in of.items() if g > 0} for q, of in grades.items()}
    assert load_judgements(path) == {q: of for q, of in above.items() if of}


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    good = tmp_path_factory.getbasetemp() / "good"
    good.write_text("1 0 d 1\n")
    for queries, qrels in ((path, None), (path, good), (good, path)):
        try:
            load_test_set(queries, qrels)
        except InvalidArgument as error:
            assert error.message.isprintable() or "not JSON" in error.message
