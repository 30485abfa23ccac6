"""``gte-retrieval-client``: the client as a distribution of its own, without the engine."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import trustme

import retrieval
from retrieval.client import RetrievalClient, Tls
from retrieval.service.access.token_file import create_token
from retrieval.service.config import TlsFiles, Writing
from tests.service.harness import RunningServer, running, word_model

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "clients" / "python"
SCRIPT = Path(__file__).with_name("client_alone.py")
SETTINGS: dict[str, Any] = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))
WHOLE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PARTS: list[str] = SETTINGS["tool"]["hatch"]["build"]["hooks"]["custom"]["parts"]

ALLOWED = {"google", "grpc", "grpc_health", "grpc_status"}
"""Packages of the dependencies that every client has."""
READS_NUMPY = "retrieval/client/vectors.py"
"""The module that works without numpy, and imports it inside of functions."""


@pytest.fixture(scope="module")
def wheel(client_built: tuple[Path, Path]) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(client_built[1]) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_two_distributions_belong_together(metadata: Message) -> None:
    assert metadata["Name"] == "gte-retrieval-client"
    assert metadata["Version"] == retrieval.__version__
    assert f"gte-retrieval-client=={retrieval.__version__}" in WHOLE["project"]["dependencies"]
    assert set(SETTINGS["project"]["dependencies"]) <= set(WHOLE["project"]["dependencies"])
    # The client has none of the regular expressions that need a later 3.11.
    whole, own = (each["project"]["requires-python"] for each in (WHOLE, SETTINGS))
    assert whole.startswith(f"{own}.")
    for key in ("license", "license-files"):
        assert SETTINGS["project"][key] == WHOLE["project"][key]
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()

    def pythons(project: dict[str, Any]) -> list[str]:
        return [each for each in project["classifiers"] if "Python :: 3." in each]

    assert pythons(SETTINGS["project"]) == pythons(WHOLE["project"])
    left_out = WHOLE["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]
    assert sorted(left_out) == sorted(f"/retrieval/{part}" for part in PARTS)


def test_the_wheel_has_the_client_and_what_it_needs(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for part in PARTS
        for path in (ROOT / "retrieval" / part, *(ROOT / "retrieval" / part).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == there
    assert {"retrieval/py.typed", "retrieval/client/__init__.py"} <= names


def test_the_source_archive_builds_by_itself(client_built: tuple[Path, Path]) -> None:
    """The wheel is built from it, so it only must hold nothing else."""
    with tarfile.open(client_built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    beside = {name for name in names if not name.startswith("retrieval/")}
    assert beside - {".gitignore"} == {
        *("LICENSE", "PKG-INFO", "README.md", "hatch_build.py", "pyproject.toml"),
    }


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Yield modules that a source imports, and whether that can fail: for types, in a function."""

    def visit(node: ast.AST, may_fail: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((each.name, may_fail) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield str(node.module), may_fail
        inside = isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, may_fail or inside)

    yield from visit(ast.parse(source), False)


def test_the_wheel_imports_its_dependencies_and_itself(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    allowed = ALLOWED | set(sys.stdlib_module_names)
    for name in sorted(name for name in names if name.endswith(".py")):
        for module, may_fail in imports(wheel.read(name).decode()):
            top, path = module.partition(".")[0], module.replace(".", "/")
            if top == "retrieval":
                assert {f"{path}.py", f"{path}/__init__.py"} & names, (name, module)
            elif top == "numpy":
                assert may_fail, f"{name} can't do without numpy"
            else:
                assert top in allowed, (name, module)


def needed(metadata: Message) -> set[str]:
    """Names of all distributions that an install of the client alone gets."""
    found: set[str] = set()
    waiting = metadata.get_all("Requires-Dist", [])
    while waiting:
        requirement = waiting.pop()
        match = re.match(r"[\w.-]+", requirement)
        if match is None or "extra ==" in requirement or match[0] in found:
            continue
        found.add(match[0])
        waiting += distribution(match[0]).requires or []
    return found


def test_it_works_with_its_dependencies_alone(
    client_built: tuple[Path, Path], metadata: Message, server: RunningServer, tmp_path: Path
) -> None:
    with zipfile.ZipFile(client_built[1]) as archive:
        archive.extractall(tmp_path)
    for name in needed(metadata):
        installed = distribution(name)
        tops = {Path(file).parts[0] for file in installed.files or ()}
        for top in tops - {"..", "__pycache__"}:
            if not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(Path(str(installed.locate_file(top))))
    run(sys.executable, server.target, path=str(tmp_path))


def run(python: str, *arguments: str, path: str) -> None:
    """Run the script with an interpreter that sees a folder, or its own packages, and no others."""
    flags = ["-P", "-S"] if path else ["-P"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, *flags, str(SCRIPT), *arguments],
        env=environment | ({"PYTHONPATH": path} if path else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path, str]]:
    """A server that takes documents, with TLS and tokens; its authority, and a token."""
    folder, authority = tmp_path_factory.mktemp("guarded"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    token = create_token(folder / "tokens.json", "all", scopes=["search", "read", "embed", "write"])
    with running(
        {},
        writing=Writing(folder / "data"),
        models=(str(word_model()),),
        tls=TlsFiles(folder / "cert.pem", folder / "key.pem"),
        token_file=folder / "tokens.json",
    ) as server:
        with RetrievalClient(
            server.target, tls=Tls(ca=folder / "ca.pem"), token=token, timeout=120
        ) as client:
            client.create_collection("default", model=str(word_model()))
        yield server, folder / "ca.pem", token


@pytest.mark.slow
def test_a_fresh_environment_of_the_client(
    client_built: tuple[Path, Path], guarded: tuple[RunningServer, Path, str], tmp_path: Path
) -> None:
    """Search, embed, put, TLS, tokens and errors, in less than a tenth of what the engine takes."""
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", client_built[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size = sum(path.lstat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 100_000_000
    server, authority, token = guarded
    run(str(python), server.target, str(authority), token, path="")
