"""Our encoder under mteb, on a set of our own; needs the extra ``mteb``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tiny_model import make_tiny_model

pytest.importorskip("mteb", reason="the extra `mteb` is not installed")

DOCUMENTS = {"1": ("A", "alpha beta"), "2": ("", "gamma delta"), "3": ("C", "epsilon")}


def write_set(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": one, "title": t, "text": text} for one, (t, text) in DOCUMENTS.items()]
    queries = [{"_id": "q1", "text": "alpha beta"}, {"_id": "q2", "text": "gamma delta"}]
    for name, records in (("corpus", corpus), ("queries", [*queries, {"_id": "q3", "text": "x"}])):
        lines = "\n".join(map(json.dumps, records))
        (folder / f"{name}.jsonl").write_text(lines)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\nq2\t2\t1\n")
    return folder


def test_a_local_set_gives_mtebs_own_files(tmp_path: Path) -> None:
    from retrieval.eval.mteb import main

    arguments = [
        *("--model", str(make_tiny_model(tmp_path / "model"))),
        *("--local", str(write_set(tmp_path / "my-set"))),
        *("--output", str(tmp_path / "out"), "--device", "cpu"),
    ]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (written,) = (tmp_path / "out").rglob("MySet.json")
    scores = json.loads(written.read_text())["scores"]["test"][0]
    # The second query is the very text of its document, and so finds it first.
    assert scores["ndcg_at_10"] >= 0.5
    assert f"{scores['ndcg_at_10']:.4f}" in result.output


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    from retrieval.errors import InvalidArgument
    from retrieval.eval.mteb_model import local_task

    with pytest.raises(InvalidArgument, match="can't read .*test.tsv"):
        local_task(tmp_path).load_data()
