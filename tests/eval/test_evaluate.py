"""The command `retrieval eval` from end to end, on an index and through a server."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from retrieval.commands.cli import cli
from retrieval.errors import InvalidArgument
from retrieval.eval.run import load_run
from tests.service.harness import RunningServer


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
    assert set(load_run(kept).values) == {str(number + 1) for number in range(len(records))}
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
    queries.write_text(
        '{"query": "<b>boats</b>", "document": "absent.md"}\n'
        '{"query": "bread", "document": "bread.md"}\n'
    )
    page = tmp_path / "report.html"
    result = run(queries, "--index", index, "--mode", "lexical", "--report", page)
    assert "nothing relevant was found for 1 of 2 queries:" in result.stdout
    assert "wanted  absent.md (not in this index)" in result.stdout
    assert "first   nothing" in result.stdout
    assert "<b>boats" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "give test QUERIES"),
        (("q.jsonl",), "can't read"),
        (("{queries}", "--index", "{index}", "--target", "x:1"), "--index DIR or --target"),
        (
            ("{queries}", "--index", "{index}", "--mode", "lexical", "--plot", "x.what"),
            "can't plot",
        ),
        (("{queries}", "--index", "{index}", "--compare", "{queries}"), "not a run"),
    ],
)
def test_mistakes(index: Path, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"query": "boats", "document": "ferry"}\n')
    filled = [one.format(queries=queries, index=index) for one in arguments]
    result = run(*filled)
    assert isinstance(result.exception, InvalidArgument)
    assert what in result.exception.message
