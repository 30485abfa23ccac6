"""The two programs: commands, options, defaults and exit codes, which scripts rely on.

Options are pinned by names, metavars, choices and defaults. The prose of the help is free.
"""

import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import indexer.commands.cli
import retrieval.commands.cli
from indexer.commands.cli import cli as indexer_cli
from retrieval.commands.cli import cli as retrieval_cli

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = Path(__file__).with_name("commands.txt")
MAIN = {"indexer": indexer.commands.cli.main, "retrieval": retrieval.commands.cli.main}


def parameters_of(program: str, command: click.Command) -> Iterator[str]:
    """Yield a line for each parameter of a program's commands, the commands' names first."""
    context = click.Context(command, info_name=program)
    for parameter in command.params:
        yield f"{program} {_line(parameter, context)}"
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from parameters_of(f"{program} {name}", inner)


def _line(parameter: click.Parameter, context: click.Context) -> str:
    # Whether click or the command checks a range changes the metavar, and nothing for a caller.
    metavar = parameter.make_metavar(context).replace(" RANGE", "")
    if isinstance(parameter, click.Argument):
        return metavar
    names = "/".join([*parameter.opts, *parameter.secondary_opts])
    is_flag = isinstance(parameter, click.Option) and parameter.is_flag
    default = None if is_flag else parameter.get_default(context)
    if isinstance(default, Enum):  # click's mark for an option without a default
        default = None
    parts = [names, "" if is_flag else metavar]
    parts.append("" if default in (None, "", ()) else f"= {default}")
    parts += ["repeatable" if parameter.multiple else "", f"env {parameter.envvar or ''}"]
    return " ".join(part for part in parts if part and part != "env ")


def test_commands_and_options() -> None:
    lines = [*parameters_of("indexer", indexer_cli), *parameters_of("retrieval", retrieval_cli)]
    missing = set(COMMANDS.read_text(encoding="utf-8").splitlines()) - set(lines)
    assert not missing


def test_console_scripts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"indexer", "retrieval"} <= settings["project"]["scripts"].keys()
    assert settings["project"]["name"] == "gte-retrieval"


@pytest.mark.parametrize("module", ["retrieval", "retrieval.gte", "retrieval.eval.mteb"])
def test_modules_that_are_programs(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None:  # a package
        assert find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("indexer --help", 0),
        ("indexer --version", 0),
        ("indexer formats --json", 0),
        ("indexer models", 0),
        ("retrieval --help", 0),
        ("retrieval search --help", 0),
        ("indexer", 2),
        ("indexer bild docs", 2),
        ("indexer build", 2),
        ("indexer build nowhere", 2),
        ("indexer build . --chunk-tokens many", 2),
        ("indexer build . --device gpu", 2),
        ("indexer status", 2),
        ("indexer list --index nowhere", 2),
        ("indexer verify --index nowhere", 2),
        ("indexer search words --index nowhere", 2),
        ("indexer search words -k 0", 2),
        ("indexer search words --mode sparse", 2),
        ("indexer remove", 2),
        ("retrieval serve --index nowhere", 2),
        ("retrieval serve --listen nonsense", 2),
        ("retrieval search words --target nonsense", 2),
        ("retrieval search words --k 3", 2),
        # Nothing listens on a port that no user may open: the server is at fault, not the user.
        ("retrieval search words --target 127.0.0.1:1 --timeout 0.5", 1),
        ("retrieval embed words", 2),
        ("retrieval token list", 2),
        ("retrieval token revoke nobody", 2),
    ],
)
def test_exit_codes(line: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = line.split()
    assert MAIN[program](arguments) == code
