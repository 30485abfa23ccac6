"""Test sets as others publish them, from their files to the report: ids, what is missing, TLS."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from retrieval.commands.cli import cli, main
from retrieval.commands.evaluation.evaluate import evaluate
from retrieval.errors import InvalidArgument, NotAnIndex, ServiceError
from retrieval.eval.measure import WARM_UP
from retrieval.eval.run import load_run
from retrieval.local import LocalSearch
from retrieval.search import Query, SearchResult
from retrieval.service.access.token_file import create_token
from retrieval.service.config import TlsFiles
from tests.service.harness import SUBJECTS, build_index, running, word_model, write_documents


@dataclass(frozen=True)
class BeirSet:
    """A set in BEIR form, and an index of its corpus."""

    folder: Path
    index: Path


def write_set(folder: Path, *, documents: Mapping[str, str], wanted: Mapping[str, str]) -> Path:
    """Write a set of documents (id → text) and queries (what they want → text)."""
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": one, "title": "", "text": text} for one, text in documents.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in corpus))
    queries = [{"_id": f"q{n}", "text": text} for n, text in enumerate(wanted.values())]
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in queries))
    rows = "".join(f"q{n}\t{name}\t1\n" for n, name in enumerate(wanted))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


# The id of each record is the line number of the one before it (of the first: of the last).
IDS = [str((number - 1) % len(SUBJECTS) or len(SUBJECTS)) for number in range(1, 9)]
DOCUMENTS = dict(zip(IDS, SUBJECTS.values(), strict=True))
WANTED = {one: " ".join(text.split()[:8]) for one, text in DOCUMENTS.items()}


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> BeirSet:
    folder = tmp_path_factory.mktemp("beir")
    made = write_set(folder / "set", documents=DOCUMENTS, wanted=WANTED)
    return BeirSet(made, build_index(made / "corpus.jsonl", folder / "index"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, arguments)])


def test_ids_of_a_corpus_match_and_not_its_line_numbers(beir: BeirSet) -> None:
    result = run(beir.folder, "--index", beir.index, "--mode", "lexical", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["measures"]["nDCG@10"] == 1


def test_wanted_documents_that_are_missing_are_counted_and_named(
    beir: BeirSet, tmp_path: Path
) -> None:
    qrels = tmp_path / "qrels.tsv"
    real = (beir.folder / "qrels" / "test.tsv").read_text()
    qrels.write_text(real + "".join(f"q0\tgone-{n}\t1\n" for n in range(7)))
    page = tmp_path / "page.html"
    arguments = (beir.folder, "--qrels", qrels, "--index", beir.index, "--mode", "lexical")
    shown = run(*arguments, "--report", page)
    assert shown.exit_code == 0, shown.output
    told = (
        "note: 7 of 15 wanted documents are not in this index, and count as not found: "
        "gone-0, gone-1, gone-2, gone-3, gone-4 … and 2 more"
    )
    assert told in shown.stdout
    assert "8 queries of " in shown.stdout
    assert "15 relevant documents; documents were matched: 8 by record id" in shown.stdout
    assert "gone-6" in page.read_text()
    result = json.loads(run(*arguments, "--json").stdout)
    assert result["documents"]["missing"] == [f"gone-{n}" for n in range(7)]
    assert result["documents"]["found_by"] == {"record id": 8}
    assert result["measures"]["Recall@100"] == pytest.approx((7 + 1 / 8) / 8, abs=1e-6)


def test_an_index_of_something_else_is_an_error(beir: BeirSet, index: Path) -> None:
    result = run(beir.folder, "--index", index, "--mode", "lexical")
    assert isinstance(result.exception, InvalidArgument)
    assert result.exception.exit_code == 2
    assert result.exception.message.startswith(
        "none of 8 wanted documents is in this index: it has documents such as notes/beehive.md, "
        "and the judgements name 8, 1, 2, 3, 4 … and 3 more"
    )


def test_a_folder_that_was_built_whole(beir: BeirSet, tmp_path: Path) -> None:
    whole = build_index(beir.folder, tmp_path / "index")
    result = json.loads(run(beir.folder, "--index", whole, "--mode", "lexical", "--json").stdout)
    assert result["documents"]["found_by"] == {"record id": 8}
    (note,) = result["notes"]
    assert note.startswith("8 documents of this index are the test queries themselves")
    # Each query finds itself first, and what it wants after that.
    assert result["measures"]["MRR@10"] == 0.5


def test_the_report_says_what_was_measured(beir: BeirSet, tmp_path: Path) -> None:
    kept, page = tmp_path / "run.jsonl", tmp_path / "page.html"
    arguments = (beir.folder, "--index", beir.index, "-k", 20, "--dense-weight", 0.3)
    shown = run(*arguments, "--save", kept, "--report", page)
    assert shown.exit_code == 0, shown.output
    for said in (
        f"8 queries of {beir.folder}, judged by {beir.folder / 'qrels' / 'test.tsv'}",
        f"index {beir.index.resolve()}",
        f"8 documents, model {word_model().name}",
        "mode hybrid, k 20, dense_weight 0.3",
    ):
        assert said in shown.stdout, shown.stdout
        assert said in page.read_text()
    date = re.search(r"date +(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n", shown.stdout)
    assert date
    again = json.loads(run(*arguments, "--compare", kept, "--json").stdout)
    about = again["run"]
    assert about["model"] == word_model().name
    assert (about["mode"], about["k"], about["documents"]) == ("hybrid", 20, 8)
    assert about["options"] == {"dense_weight": 0.3}
    assert (again["queries"], again["judgements"], again["compared_queries"]) == (8, 8, 8)
    assert again["compared_with"] == about | {"date": date[1]}
    compared = run(*arguments, "--compare", kept)
    assert f"before: {kept}: index {beir.index.resolve()}, generation " in compared.stdout
    assert date[1] in compared.stdout


def test_failures_show_uris_titles_and_texts(beir: BeirSet, tmp_path: Path) -> None:
    queries = tmp_path / "q.jsonl"
    bread = IDS[0]
    records = [
        {"query": "ferry harbour", "document": bread},
        {"query": "ferry harbour", "passage": "text that is nowhere"},
        {"query": "xylophone", "document": bread},
    ]
    queries.write_text("".join(json.dumps(one) + "\n" for one in records))
    page = tmp_path / "page.html"
    shown = run(queries, "--index", beir.index, "--mode", "lexical", "--report", page)
    assert shown.exit_code == 0, shown.output
    assert "3 queries of " in shown.stdout
    assert "3 relevant documents and passages" in shown.stdout
    assert "nothing relevant was found for 3 of 3 queries:" in shown.stdout
    for text in (shown.stdout, page.read_text()):
        assert f"corpus.jsonl/1.json ({bread})" in text
        assert "corpus.jsonl/2.json:1-1 “The ferry leaves the harbour every hour" in text
        assert "“text that is nowhere”" in text
        assert "nothing" in text
        assert "documents/" not in text


def test_the_index_is_the_usual_one_unless_told(
    beir: BeirSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beir.index.parent)
    shown = run(beir.folder, "--mode", "lexical", "--json")
    assert json.loads(shown.stdout)["run"]["where"] == f"index {beir.index.resolve()}"
    made = run("--make-queries", 200)
    assert made.exit_code == 0
    count = len(made.stdout.splitlines())
    assert made.stderr == (
        f"note: made {count} of 200; the index has no more titles, headings and questions of two "
        "words or more\n"
    )
    monkeypatch.chdir(tmp_path)
    assert isinstance(run(beir.folder, "--mode", "lexical").exception, NotAnIndex)


def test_through_a_server_with_tls_and_a_token(beir: BeirSet, tmp_path: Path) -> None:
    authority = trustme.CA()
    ca, client = tmp_path / "ca.pem", authority.issue_cert("client.example.org")
    authority.cert_pem.write_to_path(ca)
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    server_cert = authority.issue_cert("127.0.0.1")
    server_cert.private_key_pem.write_to_path(tmp_path / "server.key")
    server_cert.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    tokens = tmp_path / "tokens.json"
    whole = create_token(tokens, "whole", scopes=("search", "read"))
    narrow = create_token(tokens, "narrow", scopes=("search",))
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", ca)
    with running({"default": beir.index}, tls=files, token_file=tokens) as server:
        secure = ("--ca", ca, "--cert", tmp_path / "client.pem", "--key", tmp_path / "client.key")
        arguments = (beir.folder, "--target", server.target, "--mode", "lexical", "--json")
        result = run(*arguments, *secure, "--token", whole)
        assert result.exit_code == 0, result.output
        there = json.loads(result.stdout)
        assert there["run"]["where"] == f"collection default of {server.target}"
        here = json.loads(
            run(beir.folder, "--index", beir.index, "--mode", "lexical", "--json").stdout
        )
        for same in ("measures", "documents", "notes", "queries", "judgements"):
            assert there[same] == here[same]
        for same in ("generation", "documents", "model", "mode"):
            assert there["run"][same] == here["run"][same]
        refused = run(*arguments, *secure, "--token", narrow)
        assert isinstance(refused.exception, ServiceError)
        assert refused.exception.exit_code == 2
        assert "lacks the scope read" in refused.exception.message
        unencrypted = run(*arguments, "--timeout", 1)
        assert isinstance(unencrypted.exception, ServiceError)


def test_a_difference_that_is_no_chance(beir: BeirSet, tmp_path: Path) -> None:
    """200 queries, each better: p is printed as below 0.001, and never as 0."""
    queries, before = tmp_path / "q.jsonl", tmp_path / "before.jsonl"
    wanted = [(name, text) for name, text in WANTED.items() for _ in range(3)]
    records = [{"query": text, "document": name} for name, text in wanted]
    queries.write_text("".join(json.dumps(one) + "\n" for one in records))
    # As versions before this one kept a run, without a line about what was measured.
    measures = {"nDCG@10": 0.0, "MRR@10": 0.0}
    worse = [{"id": str(n), "measures": measures} for n in range(1, len(wanted) + 3)]
    before.write_text("".join(json.dumps(one) + "\n" for one in worse))
    shown = run(queries, "--index", beir.index, "--mode", "lexical", "--compare", before)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"nDCG@10 +0\.0000 +1\.0000 +\+1\.0000 +<0\.001 +24/0", shown.stdout)
    assert f"before: {before}\n" in shown.stdout
    assert (
        "note: only the 24 queries of both runs are compared; 2 of the earlier run and 0 of this "
        "one are not" in shown.stdout
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"id": "1", "measures": {"a": "high"}}', "line 1: .*a measure is not a number"),
        ('{"id": "1", "measures": {"a": NaN}}', "line 1: .*a measure is not a number"),
        ('{"id": "1", "measures": [1]}', 'line 1: .*it needs "id" and "measures"'),
        ('{"measures": {"a": 1}}', 'line 1: .*it needs "id" and "measures"'),
        ('{"id": "1", "measures": {"a": 1}}\n{"id": "2", "measures": {"b": 1}}', "line 2: .*not"),
        ('{"run": {"k": 1}}', "line 1: .*'queries' is missing"),
        ('{"id": "1"', "line 1: not JSON"),
        ("", "it has no queries"),
    ],
)
def test_files_that_are_no_run(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match=what):
        load_run(path)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("q.jsonl", "--tls"), "--tls has no effect without --target"),
        (("q.jsonl", "--collection", "docs"), "--collection has no effect without --target"),
        (("q.jsonl", "--token", "x"), "--token has no effect without --target"),
        (("q.jsonl", "--target", "x:1", "--device", "cpu"), "--device has no effect without"),
        (("q.jsonl", "--target", "x:1", "--reranker", "x"), "--reranker has no effect without"),
        (("q.jsonl", "--target", "x:1", "--index", "x"), "not both"),
        (("q.jsonl", "--make-queries", "5"), "give --index, but neither QUERIES nor --target"),
        (("--make-queries", "5", "--target", "x:1"), "neither QUERIES nor --target"),
        (("q.jsonl", "--save", "absent/run.jsonl"), "there is no folder absent"),
        (("q.jsonl", "--report", "absent/page.html"), "there is no folder absent"),
        (("q.jsonl", "--plot", "plot.docx"), "its name must end in .png"),
        (("q.jsonl", "--plot", "plot"), "its name must end in .png"),
        (("q.jsonl", "-k", "1001"), "-k"),
        (("q.jsonl", "-k", "9"), "-k"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(
    arguments: tuple[str, ...],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETRIEVAL_TOKEN", "one that is always there")
    assert main(["eval", *arguments]) == 2
    assert what in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_everything_that_is_left_out_is_in_the_report(beir: BeirSet, tmp_path: Path) -> None:
    first = IDS[0]
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    texts = {"q0": "ferry", "q1": "bread", "q2": "glacier"}
    lines = [json.dumps({"_id": one, "text": text}) for one, text in texts.items()]
    (folder / "queries.jsonl").write_text("\n".join([*lines, lines[0]]))
    rows = [f"q0\t{first}\t1", f"q0\t{first}\t1", f"q0\t{first}\t2", f"q1\t{first}\t0", "q9\tx\t1"]
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_text("\n".join(rows))
    arguments = (folder, "--index", beir.index, "--mode", "lexical")
    notes = [
        "1 repeated query left out",
        f"{qrels}: 1 line repeats a judgement (line 2)",
        f"{qrels}: 1 line contradicts an earlier one (line 3); the higher grade counts",
        f"2 of 3 queries have no relevant document in {qrels} and are not asked",
        f"{qrels} judges 1 query that queries.jsonl does not have: q9",
    ]
    shown = run(*arguments)
    assert shown.stdout.startswith(f"1 query of {folder}, judged by {qrels}\n")
    assert "1 relevant document; documents were matched: 1 by record id\n" in shown.stdout
    for note in notes:
        assert f"  note: {note}\n" in shown.stdout
    assert json.loads(run(*arguments, "--json").stdout)["notes"] == notes


def test_names_that_several_documents_have_are_in_the_report(beir: BeirSet, tmp_path: Path) -> None:
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (twice / name).write_bytes((beir.folder / "corpus.jsonl").read_bytes())
    index = build_index(twice, tmp_path / "index")
    result = json.loads(run(beir.folder, "--index", index, "--mode", "lexical", "--json").stdout)
    assert len(result["documents"]["several"]) == 8
    (note,) = result["notes"]
    assert note.startswith(
        "8 of 8 wanted documents mean several documents of this index, and the best of them "
        f"counts, once: {IDS[0]} is twice/a.jsonl/1.json, twice/b.jsonl/1.json"
    )
    assert result["measures"]["nDCG@10"] == 1


def test_searches_that_are_not_timed_come_first(
    beir: BeirSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = LocalSearch.search

    def noting(self: LocalSearch, query: Query) -> SearchResult:
        asked.append(query.text or "")
        return real(self, query)

    monkeypatch.setattr(LocalSearch, "search", noting)
    assert run(beir.folder, "--index", beir.index, "--mode", "lexical").exit_code == 0
    assert asked[WARM_UP:] == list(WANTED.values())
    assert not set(asked[:WARM_UP]) & set(WANTED.values())


def test_the_page_has_every_query_and_the_worst_first(beir: BeirSet, tmp_path: Path) -> None:
    queries, page = tmp_path / "q.jsonl", tmp_path / "page.html"
    good = [{"query": text, "document": name} for name, text in WANTED.items()]
    bad = [{"query": f"xylophone{letter} <i>", "document": IDS[0]} for letter in "abcdef"]
    queries.write_text("".join(json.dumps(one) + "\n" for one in [*good, *bad]))
    shown = run(queries, "--index", beir.index, "--mode", "lexical", "--report", page)
    assert "nothing relevant was found for 6 of 14 queries:" in shown.stdout
    assert "xylophonee" in shown.stdout
    assert "xylophonef" not in shown.stdout
    assert "  … and 1 more; --report shows all\n" in shown.stdout
    html = page.read_text()
    rows = html[html.index("<table>") :].split("<tr>")[2:]
    assert len(rows) == 14
    assert all("xylophone" in row for row in rows[:6])
    assert not any("xylophone" in row for row in rows[6:])
    assert "<i>" not in html
    assert "<svg" in html


def test_a_test_set_outlives_other_chunks(tmp_path: Path) -> None:
    write_documents(tmp_path / "notes")
    queries = tmp_path / "q.jsonl"
    wanted = SUBJECTS["ferry"].split(";")[0].upper().replace(" ", "\n")
    queries.write_text(json.dumps({"query": "when does the ferry leave", "passage": wanted}))
    for tokens in (30, 60, 0):
        index = tmp_path / f"index-{tokens}"
        build_index(tmp_path / "notes", index, chunk_tokens=tokens)
        result = json.loads(run(queries, "--index", index, "--mode", "lexical", "--json").stdout)
        assert result["measures"]["MRR@10"] > 0, tokens


def test_made_queries_are_questions_headings_and_titles(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "tea.md").write_text(
        "# All about tea\n\nTea is a drink that is made of leaves.\n\n"
        "## Green and black\n\nBlack tea is left to oxidise, green tea is not.\n\n"
        "## Water\n\nHow hot should the water be? Eighty degrees for green tea.\n"
    )
    index = build_index(notes, tmp_path / "index", chunk_tokens=100)
    made = run("--make-queries", 10, "--index", index)
    records = [json.loads(line) for line in made.stdout.splitlines()]
    assert {one["source"] for one in records} == {"question", "heading", "title"}
    question = next(one for one in records if one["source"] == "question")
    assert question["query"] == "How hot should the water be?"
    assert "Eighty degrees" in question["passage"]
    assert all(one["document"] == "notes/tea.md" for one in records)
    queries = tmp_path / "q.jsonl"
    queries.write_text(made.stdout)
    result = json.loads(run(queries, "--index", index, "--json").stdout)
    assert result["queries"] == len(records)
    assert result["measures"]["Recall@100"] == 1


def test_all_options_of_a_ranking_can_be_given(beir: BeirSet) -> None:
    names = {parameter.name for parameter in evaluate.params}
    assert names >= {"mode", "fusion", "dense_weight", "rerank_top", "filter", "exact"}
    given = ("--fusion", "rrf", "--exact", "--filter", "path:**", "--collapse", "0.99")
    result = json.loads(run(beir.folder, "--index", beir.index, *given, "--json").stdout)
    assert result["run"]["options"] == {
        "fusion": "rrf",
        "exact": True,
        "filter": "path:**",
        "collapse": 0.99,
    }


def test_without_the_extra_it_says_what_to_install(
    beir: BeirSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = (beir.folder, "--index", beir.index, "--mode", "lexical")
    for module, option in (
        ("ir_measures", ()),
        ("matplotlib.figure", ("--plot", tmp_path / "p.png")),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            result = run(*arguments, *option)
        assert isinstance(result.exception, InvalidArgument)
        assert "pip install 'gte-retrieval[eval]'" in result.exception.message


def test_other_queries_of_the_same_ids_are_not_compared(beir: BeirSet, tmp_path: Path) -> None:
    """Queries without an id are called after their lines, in every file."""
    queries, kept = tmp_path / "q.jsonl", tmp_path / "kept.jsonl"
    records = [{"query": text, "document": name} for name, text in WANTED.items()]
    arguments = (queries, "--index", beir.index, "--mode", "lexical")
    queries.write_text("".join(json.dumps(one) + "\n" for one in records))
    assert run(*arguments, "--save", kept).exit_code == 0
    queries.write_text("".join(json.dumps(one) + "\n" for one in [*records[:2], *records[:1:-1]]))
    shown = run(*arguments, "--compare", kept)
    assert (
        "note: only the 2 queries of both runs are compared; 6 of the earlier run and 6 of this "
        "one are not" in shown.stdout
    )
    queries.write_text("".join(json.dumps(one) + "\n" for one in records[::-1]))
    result = run(*arguments, "--compare", kept)
    assert isinstance(result.exception, InvalidArgument)
    assert "no query in common" in result.exception.message
