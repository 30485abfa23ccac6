"""The pages under docs/ say what the code does: generated parts, links, names and examples."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from google.protobuf.descriptor import FileDescriptor

from examples import demo
from indexer.build import embed
from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.report import BuildReport
from indexer.build.settings import BuildOptions
from indexer.commands.cli import cli as indexer_cli
from indexer.decoding.decompress import COMPRESSED
from indexer.files.unpack import MAX_MEMBERS, MAX_NESTING, MAX_UNPACKED_BYTES
from indexer.parse.base.fields import MAX_METADATA, MAX_METADATA_VALUES
from indexer.parse.base.outline import MAX_HEADING_CHARS
from indexer.parse.formats import (
    CONTAINER_EXTENSIONS,
    DOCUMENT_EXTENSIONS,
    MAX_CONTAINER_BYTES,
)
from indexer.skip import SkipReason
from retrieval import errors
from retrieval.commands.cli import cli as retrieval_cli
from retrieval.encoding.backend import CPU_BATCH_TOKENS, CUDA_BATCH_TOKENS
from retrieval.encoding.model_cards import MODEL_CARDS
from retrieval.gte import model
from retrieval.gte.cpu import host
from retrieval.gte.short_texts import MAX_TOKENS as MAX_TRACED_TOKENS
from retrieval.local import open_local
from retrieval.search import DEFAULT_K, Query
from retrieval.search.diversity import MMR_POOL
from retrieval.search.ranking import RRF_DEPTH, RRF_RANK
from retrieval.service.grpc_api import status
from retrieval.service.observability.metrics import Metrics
from retrieval.service.server import SERVICE_NAMES
from retrieval.store.disk.tables.database import connect_for_writing
from retrieval.store.disk.vectors.vector_index import EXACT_ROWS
from retrieval.store.disk.writing import maintenance
from retrieval.v1 import (
    collection_pb2,
    document_pb2,
    embedding_service_pb2,
    index_service_pb2,
    search_service_pb2,
    vector_pb2,
)
from tests.drawing import FUZZ
from tests.service.harness import RunningServer, build_index, running, write_documents

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
CLIENT_README = ROOT / "clients/python/README.md"
PROSE = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    CLIENT_README,
    *PAGES,
    DOCS / "decisions" / "README.md",
    *RECORDS,
]
"""Every page whose links, files and commands are checked."""
DOCUMENTED_TARGET = "127.0.0.1:50051"
PROTO_FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR
    for module in (
        collection_pb2,
        document_pb2,
        embedding_service_pb2,
        index_service_pb2,
        search_service_pb2,
        vector_pb2,
    )
)

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return _FENCE.sub("", text)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    start = text.index(f"\n{heading}\n") + 1
    level = heading.split(maxsplit=1)[0]
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start + len(heading) :], re.MULTILINE)
    return text[start : start + len(heading) + end.start()] if end else text[start:]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for _, title in _HEADING.findall(without_code(text)):
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        number = 1
        unique = slug
        while unique in found:
            unique = f"{slug}-{number}"
            number += 1
        found.add(unique)
    return found


def first_cells(text: str) -> set[str]:
    """First cells of all tables' rows, without their backticks."""
    return {match[1].strip(" `") for match in re.finditer(r"^\|([^|]*)\|", text, re.MULTILINE)}


def subclasses(kind: type[errors.RetrievalError]) -> Iterator[type[errors.RetrievalError]]:
    if kind.__module__ == errors.__name__:  # others stay inside their package
        yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def ids(path: Path) -> str:
    return path.name


def test_generated_parts_are_current() -> None:
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", "-P", "README.md"]
    command += [str(path.relative_to(ROOT)) for path in PAGES]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"run `make docs`\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_pages_have_one_title_and_are_listed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headings = _HEADING.findall(without_code(text))
    assert [level for level, _ in headings].count("#") == 1
    assert headings[0][0] == "#"
    assert path.name == "index.md" or f"({path.name})" in page("index.md")
    assert anchors(text)


@pytest.mark.parametrize("path", PROSE, ids=ids)
def test_links_resolve(path: Path) -> None:
    for link in _LINK.findall(without_code(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        assert file.exists(), f"{path.name} links to {link}, which does not exist"
        if anchor:
            known = anchors(file.read_text(encoding="utf-8"))
            assert anchor in known, f"{path.name} links to {link}; {file.name} has {sorted(known)}"


@pytest.mark.parametrize("path", PROSE, ids=ids)
def test_files_named_in_the_text_exist(path: Path) -> None:
    text = without_code(path.read_text(encoding="utf-8"))
    folders = "retrieval|indexer|tests|proto|examples|training|benchmarks|[.]github|[.]ci"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", RECORDS, ids=ids)
def test_records_have_one_form_and_are_listed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    number, position = int(path.name[:4]), RECORDS.index(path) + 1
    assert number == position
    title = re.search(rf"^# {number}[.] (.+)$", text, re.MULTILINE)
    date = re.search(r"^- Date: (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert title
    assert date
    assert re.search(r"^- Status: (accepted|superseded by \[\d+\]\(.+\))$", text, re.MULTILINE)
    headings = [name for _, name in _HEADING.findall(text)]
    assert headings[1:] == ["Context", "Decision", "Consequences"]
    row = f"| [{number}]({path.name}) | {title[1]} | {date[1]} |"
    assert row in page("decisions/README.md")


@pytest.mark.parametrize("package", ["retrieval", "indexer"])
def test_every_module_has_its_reason(package: str) -> None:
    entries = (ROOT / package).iterdir()
    modules = {path.name for path in entries if re.fullmatch(r"[a-z]\w*(\.py)?", path.name)}
    table = section(page("architecture.md"), "## Folders")
    explained = {name.strip("/") for name in re.findall(rf"`{package}/([\w.]+/?)`", table)}
    assert modules == explained


def commands_of(group: click.Group) -> Iterator[tuple[list[str], click.Command]]:
    """Every command, and every one of the groups among them."""
    for name, command in group.commands.items():
        yield [name], command
        if isinstance(command, click.Group):
            yield from (([name, *words], inner) for words, inner in commands_of(command))


@pytest.mark.parametrize(
    ("program", "group"), [("indexer", indexer_cli), ("retrieval", retrieval_cli)]
)
def test_every_command_and_option_is_documented(program: str, group: click.Group) -> None:
    text = page("cli.md")
    for words, command in commands_of(group):
        shown = section(text, f"### {program} {' '.join(words)}")
        with click.Context(command, help_option_names=["-h", "--help"]) as context:
            options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
        assert options
        missing = [
            option
            for parameter in options
            for option in parameter.opts
            if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown)
        ]
        assert missing == []


def test_options_named_in_the_text_exist() -> None:
    known = {"--help", "--version", "--single", "--diff", "--check"}
    for group in (indexer_cli, retrieval_cli):
        for _, command in commands_of(group):
            known |= {option for parameter in command.params for option in parameter.opts}
    for path in PAGES:
        named = re.findall(
            r"`[^`\n]*?(--[a-z][a-z-]+)[^`\n]*`", without_code(path.read_text("utf-8"))
        )
        assert set(named) <= known, path.name


@pytest.mark.parametrize("file", PROTO_FILES, ids=lambda file: Path(file.name).stem)
def test_the_wire_contract_is_documented(file: FileDescriptor) -> None:
    text = page("api.md")
    for service in file.services_by_name.values():
        assert service.full_name in SERVICE_NAMES
        methods = section(text, f"### {service.name}")
        for method in service.methods:
            assert f"`{method.name}({method.input_type.name})`" in methods
            assert f"{method.output_type.name}`" in methods
    for message in file.message_types_by_name.values():
        fields = {field.name for field in message.fields}
        documented = first_cells(section(text, f"### {message.name}")) - {"---"}
        assert fields - {"field"} == documented - {"field"}  # the head of the column
    for enum in file.enum_types_by_name.values():
        values = {value.name for value in enum.values}
        assert values == first_cells(section(text, f"### {enum.name}")) - {"value", "---"}


@pytest.mark.parametrize(
    "kind", sorted(set(subclasses(errors.RetrievalError)), key=lambda kind: kind.__name__)
)
def test_every_exception_is_documented(kind: type[errors.RetrievalError]) -> None:
    row = re.search(rf"^\| `{kind.__name__}` \|.*$", page("serving.md"), re.MULTILINE)
    assert row, f"{kind.__name__} is not in the table of errors"
    assert f"`{kind.reason}`" in row[0]
    code = status.STATUS_CODES.get(kind)
    assert code is None or f"`{code.name}`" in row[0]
    assert f"`{kind.reason}`" in section(page("operations.md"), "## What to do about an error")


def test_every_metric_is_documented() -> None:
    table = section(page("serving.md"), "## What you can watch")
    families = Metrics().registry.collect()
    names = {f"{family.name}{'_total' * (family.type == 'counter')}" for family in families}
    ours = {name for name in names if name.startswith("retrieval_")}
    assert ours
    assert [name for name in sorted(ours) if f"`{name}`" not in table] == []


def test_every_skip_reason_is_documented() -> None:
    table = section(page("indexing.md"), "## What is skipped, and how you learn of it")
    assert first_cells(table) - {"reason", "---"} == {str(reason) for reason in SkipReason}


def test_every_extension_is_documented() -> None:
    text = page("formats.md")
    table = section(text, "## What is read") + section(
        text, "## Archives and other files of many documents"
    )
    extensions = {*DOCUMENT_EXTENSIONS, *CONTAINER_EXTENSIONS, *COMPRESSED}
    assert extensions == set(re.findall(r"`((?:\.\w+)+)`", table))


def test_every_key_of_the_summary_is_documented() -> None:
    table = section(page("indexing.md"), "## The summary as JSON")
    summary: dict[str, Any] = BuildReport().as_json()
    counted = [key for value in summary.values() if isinstance(value, dict) for key in value]
    assert [key for key in (*summary, *counted) if f"`{key}`" not in table] == []


def test_every_table_and_column_is_documented(tmp_path: Path) -> None:
    database = connect_for_writing(tmp_path)
    try:
        tables = {
            table.name: {column.name for column in table.columns}
            for table in database.tables
            if not table.name.startswith(("sqlite_", "_sqlite_"))
        }
    finally:
        database.close()
    text = page("index-format.md")
    assert set(re.findall(r"^### (\w+)$", section(text, "## Tables"), re.MULTILINE)) == set(tables)
    for table, columns in tables.items():
        documented = {
            name
            for cell in re.findall(r"^\|([^|]*)\|", section(text, f"### {table}"), re.MULTILINE)
            for name in re.findall(r"`(\w+)`", cell)
        }
        assert documented == columns, table


def test_every_model_is_documented() -> None:
    assert set(MODEL_CARDS) <= set(re.findall(r"^\| `([^`]+)`", page("models.md"), re.MULTILINE))


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=ids)
def test_commands_that_are_shown_can_be_given(path: Path) -> None:
    """As far as their words and options go; what they name need not be there."""
    for block in re.findall(r"^```console\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S):
        for line in re.findall(r"(?:^\$ |\| )((?:indexer|retrieval) .*)$", block, re.MULTILINE):
            program, *words = shlex.split(re.split(r"\s[|<>]", line)[0], comments=True)
            group = indexer_cli if program == "indexer" else retrieval_cli
            command: click.Command = group
            while isinstance(command, click.Group):
                command = command.commands[words.pop(0)]
            with as_if_all_existed(command):
                command.make_context(program, words)


@contextmanager
def as_if_all_existed(command: click.Command) -> Iterator[None]:
    """Have a command take paths that are not there."""
    types = [each.type for each in command.params if isinstance(each.type, click.Path)]
    checked = [(each, each.exists) for each in types]
    for each in types:
        each.exists = False
    try:
        yield
    finally:
        for each, exists in checked:
            each.exists = exists


@pytest.mark.parametrize("path", PROSE, ids=ids)
def test_programs_that_are_named_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    ours = {"retrieval", "indexer", "benchmarks", "training"}
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module.partition(".")[0] in ours:
            assert find_spec(module), module
    for script in re.findall(r"python ([\w/]+\.py)", text):
        assert (ROOT / script).is_file(), script


def make_help() -> dict[str, str]:
    """Targets that `make help` lists, and what it says of them."""
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.split()[0]: line for line in shown.stdout.splitlines()}


def what_make_would_run(*arguments: str) -> str:
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_does_what_the_readme_says() -> None:
    check = what_make_would_run("check")
    for tool in ("ruff check", "mypy", "lint-imports", "buf@1.75.0 lint", "breaking --against"):
        assert tool in check
    assert "proto/generate.py --check" in check
    assert "cog --check -P README.md docs/*.md" in check
    assert re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.M) == ["test", "check"]
    fuzz = what_make_would_run("fuzz", "SEED=7")
    assert 'echo "SEED=7"' in fuzz
    assert f"--hypothesis-profile={FUZZ} --hypothesis-seed=7" in fuzz
    seeds = {re.findall(r"SEED=(\d+)", what_make_would_run("fuzz"))[-1] for _ in range(2)}
    assert len(seeds) == 2
    named = {one for path in PROSE for one in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert named <= {*make_help(), "help"}


NUMBERS = [
    ("README.md", f"exact up to {EXACT_ROWS:,} passages"),
    ("concepts.md", f"at most {MAX_METADATA} fields and {MAX_METADATA_VALUES:,} values"),
    ("concepts.md", f"the first {MAX_HEADING_CHARS} characters of a text"),
    ("concepts.md", f"Up to {EXACT_ROWS:,} vectors"),
    ("concepts.md", {8: "more than eight of them"}[maintenance.MAX_SMALL_SEGMENTS]),
    ("encoder.md", f"up to {CPU_BATCH_TOKENS} tokens ({CUDA_BATCH_TOKENS:,} on a GPU)"),
    ("encoder.md", f"a batch of at most {MAX_TRACED_TOKENS:,} tokens"),
    ("encoder.md", f"On the CPU {model._MLP_ROWS} tokens at a time"),
    (
        "encoder.md",
        f"up to {host._KEPT >> 20} MiB at the end of each heap, and blocks of less than "
        f"{host._LARGEST >> 20} MiB",
    ),
    ("formats.md", f"at most {MAX_CONTAINER_BYTES >> 30} GiB, {MAX_UNPACKED_BYTES >> 30} GiB"),
    ("formats.md", {10**6: "and a million members"}[MAX_MEMBERS]),
    ("formats.md", {3: "three deep"}[MAX_NESTING]),
    ("operations.md", f"{embed.WINDOW_CHUNKS} chunks or {embed.WINDOW_CHARS >> 20} Mi characters"),
    ("operations.md", f"happens by itself at {100 * maintenance.MAX_UNUSED_SHARE:.0f} %"),
    ("api.md", f"best {RRF_DEPTH:,} of each search"),
    ("api.md", f"1 / ({RRF_RANK} + rank)"),
    ("api.md", {100: "the best hundred passages diverse"}[MMR_POOL]),
    ("api.md", f"zero means {DEFAULT_K}"),
]


@pytest.mark.parametrize(("name", "words"), NUMBERS)
def test_numbers_in_the_text_are_those_of_the_code(name: str, words: str) -> None:
    path = ROOT / name if name == "README.md" else DOCS / name
    assert words in " ".join(path.read_text("utf-8").split())


def test_the_demo_builds_serves_and_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_documents(tmp_path / "docs")
    (tmp_path / ".demo").mkdir()
    for name, path in (
        ("ROOT", tmp_path),
        ("INDEX", tmp_path / ".demo/index"),
        ("LOG", tmp_path / ".demo/server.log"),
    ):
        monkeypatch.setattr(demo, name, path)
    demo.main()
    shown = capfd.readouterr().out
    assert len(re.findall(r"^\? .+\(\d+ ms on the server\)$", shown, re.MULTILINE)) == 3
    assert "server stopped, exit code 0" in shown


@pytest.mark.slow
def test_the_questions_of_the_demo_find_their_passages(tmp_path: Path) -> None:
    answers = {
        "What happens to an index when the build is killed?": "What happens when a build is killed",
        "How are long documents cut into chunks?": "How documents are cut into chunks",
        "Why does the encoder not pad its batches?": "Why batches are not padded",
    }
    assert tuple(answers) == demo.QUESTIONS
    build(BuildOptions([DOCS], tmp_path / "index", device="cpu"), SilentProgress())
    for question, heading in answers.items():
        with open_local(tmp_path / "index", device="cpu") as local:
            best = local.search(Query(question, k=1)).passages[0]
        assert best.heading_path[-1] == heading


def examples() -> list[Any]:
    """Every Python block of the pages; those marked ``run`` are to be run too."""
    return [
        pytest.param(language, code, id=f"{path.stem}-{number}")
        for path in (ROOT / "README.md", CLIENT_README, *PAGES)
        for number, (language, code) in enumerate(_FENCE.findall(path.read_text("utf-8")))
        if language.split()[:1] == ["python"]
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("docs")
    write_documents(folder / "notes")
    with running({"default": build_index(folder / "notes", folder / "index")}) as started:
        yield started


@pytest.mark.parametrize(("language", "code"), examples())
def test_python_examples_run(language: str, code: str, server: RunningServer) -> None:
    compiled = compile(code.replace(DOCUMENTED_TARGET, server.target), "<example>", "exec")
    if "run" in language.split():
        exec(compiled, {})
