"""Test queries read, answers matched and measured, runs compared, the command from end to end."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from retrieval.cli import cli
from retrieval.errors import InvalidArgument
from retrieval.eval.compare import compare, load_run
from retrieval.eval.measure import measure_names, names_of, run_queries
from retrieval.eval.queries import TestQuery, load_queries
from retrieval.found import Passage
from tests.service.harness import RunningServer


def passage(uri: str, text: str, ordinal: int = 0) -> Passage:
    name = f"documents/1/passages/{ordinal}"
    return Passage(name, 1, uri, uri, ordinal, 0, len(text), 1, 1, (), text, 1, {}, 0.5)


FOUND = [
    passage("docs/a/one.md", "The  first text."),
    passage("docs/a/two.md", "A second text, longer than what is wanted of it.", 1),
    passage("docs/a/two.md", "Another.", 2),
    passage("docs/b%2Fc.txt", "The fourth.", 3),
]


def ask(_text: str, k: int, *, by_document: bool) -> Sequence[Passage]:
    return FOUND[:k]


def measured(documents: dict[str, int], passages: dict[str, int], k: int = 10) -> dict[str, float]:
    (answer,) = run_queries([TestQuery("1", "q", documents, passages)], ask, k)
    assert list(answer.measures) == measure_names(k)
    return dict(answer.measures)


@pytest.mark.parametrize("name", ["docs/a/two.md", "a/two.md", "docs/a/two", "a/two", "two"])
def test_a_document_has_several_names(name: str) -> None:
    assert measured({name: 1}, {})["MRR@10"] == 0.5


def test_quoted_names_and_folders_without() -> None:
    assert "b/c" in names_of("docs/b%2Fc.txt")
    assert names_of("one.md")[:2] == ["one.md", "one"]


def test_documents_rank_at_their_best_passage() -> None:
    values = measured({"a/two.md": 1, "b/c": 2, "absent": 1}, {})
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    gain = 1 / math.log2(3) + 2 / math.log2(4)
    assert values["nDCG@10"] == pytest.approx(gain / ideal, abs=1e-6)
    assert values["MAP@10"] == pytest.approx((1 / 2 + 2 / 3) / 3, abs=1e-6)
    assert values["Recall@10"] == pytest.approx(2 / 3, abs=1e-6)
    assert values["Recall@1"] == 0
    assert values["Recall@2"] == pytest.approx(1 / 3, abs=1e-6)


def test_passages_are_known_by_their_text() -> None:
    assert measured({}, {"SECOND text, longer": 1})["MRR@10"] == 0.5
    assert measured({}, {"before. The first text. after": 1})["MRR@10"] == 1
    assert measured({}, {"nowhere": 1})["Recall@10"] == 0


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
        ('{"text": "x"}', '"query" must be a text'),
        ('{"query": "x"}', "to be found"),
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
    (tmp_path / "qrels").write_text("1 0 d1 high\n2 0 d2 low\n")
    with pytest.raises(InvalidArgument, match="line 2: not a judgement"):
        load_queries(tmp_path / "queries.tsv", tmp_path / "qrels")
    (tmp_path / "qrels").write_text("1 0 d1 0\n")
    with pytest.raises(InvalidArgument, match="no query of"):
        load_queries(tmp_path / "queries.tsv", tmp_path / "qrels")
    with pytest.raises(InvalidArgument, match="can't read"):
        load_queries(tmp_path / "queries.tsv", tmp_path / "absent")


def test_chance_and_what_is_not() -> None:
    same = {str(n): {"nDCG@10": n / 40} for n in range(40)}
    (none,) = compare(same, same)
    assert (none.p_value, none.better, none.worse) == (1.0, 0, 0)
    better = {query: {"nDCG@10": values["nDCG@10"] + 0.1} for query, values in same.items()}
    (clear,) = compare(same, better)
    assert clear.p_value < 0.001
    assert (clear.better, clear.worse) == (40, 0)
    assert clear.after - clear.before == pytest.approx(0.1)
    mixed = {
        query: {"nDCG@10": values["nDCG@10"] + (0.1 if int(query) % 2 else -0.1)}
        for query, values in same.items()
    }
    (chance,) = compare(same, mixed)
    assert chance.p_value > 0.9
    # Three gains of one size, none lost: by chance in 2 of 8 exchanges.
    few = {str(n): {"nDCG@10": 0.0} for n in range(3)}
    (three,) = compare(few, {query: {"nDCG@10": 0.5} for query in few})
    assert three.p_value == pytest.approx(0.25, abs=0.02)
    with pytest.raises(InvalidArgument, match="no query in common"):
        compare(same, {"other": {"nDCG@10": 1.0}})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, arguments)])


def test_the_command_from_end_to_end(index: Path, server: RunningServer, tmp_path: Path) -> None:
    made = run("--make-queries", 12, "--index", index)
    assert made.exit_code == 0
    records = [json.loads(line) for line in made.stdout.splitlines()]
    assert 3 <= len(records) <= 12
    assert len({record["query"].casefold() for record in records}) == len(records)
    queries, kept, page = (tmp_path / name for name in ("q.jsonl", "run.jsonl", "report.html"))
    queries.write_text(made.stdout)
    here = run(queries, "--index", index, "--save", kept, "--report", page, "--json")
    assert here.exit_code == 0, here.output
    result = json.loads(here.stdout)
    assert result["queries"] == len(records)
    assert result["measures"]["nDCG@10"] > 0.6
    assert set(result["milliseconds"]) == {"p50", "p90", "p99"}
    assert set(load_run(kept)) == {str(number + 1) for number in range(len(records))}
    text = page.read_text()
    assert "<svg" in text
    assert "<script" not in text
    over_the_wire = run(queries, "--target", server.target, "--compare", kept, "--json")
    compared = json.loads(over_the_wire.stdout)["compared"]
    assert {one["measure"] for one in compared} == set(result["measures"])
    assert all(one["p_value"] == 1 for one in compared)
    words = run(queries, "--index", index, "--mode", "lexical", "--compare", kept)
    assert words.exit_code == 0
    assert "better/worse" in words.stdout
    picture = tmp_path / "plot.png"
    assert run(queries, "--index", index, "--mode", "lexical", "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_not_found_is_told(index: Path, tmp_path: Path) -> None:
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"query": "<b>boats</b>", "document": "absent.md"}\n')
    page = tmp_path / "report.html"
    result = run(queries, "--index", index, "--mode", "lexical", "--report", page)
    assert "nothing relevant was found for 1" in result.stdout
    assert "absent.md" in result.stdout
    assert "<b>boats" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "give test queries"),
        (("q.jsonl",), "can't read"),
        (("--make-queries", "5"), "--index"),
        (("{queries}",), "--index DIR or --target"),
        (("{queries}", "--index", "{index}", "--target", "x:1"), "--index DIR or --target"),
        (
            ("{queries}", "--index", "{index}", "--mode", "lexical", "--plot", "x.what"),
            "can't plot",
        ),
        (("{queries}", "--index", "{index}", "--compare", "{queries}"), "no run"),
    ],
)
def test_mistakes(index: Path, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"query": "boats", "document": "ferry"}\n')
    filled = [one.format(queries=queries, index=index) for one in arguments]
    result = run(*filled)
    assert isinstance(result.exception, InvalidArgument)
    assert what in result.exception.message
