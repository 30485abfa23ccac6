"""Reader processes run the program's own code, whatever lies in the folders around them."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

import indexer
import retrieval
from indexer.files.discover import discover
from indexer.readers.messages import Job, Parsed
from indexer.readers.pool import Readers
from tests.indexer.readers.test_pool import make_setup, outcomes_of

STANDARD = ("json", "signal", "resource", "queue", "struct", "runpy", "zipfile", "encodings")
"""Modules of Python's own that a reader, or Python as it starts, imports."""
INSTALLED = ("numpy", "tokenizers", "lxml", "pathspec", "selectolax")
OURS = ("indexer", "retrieval")
CUSTOM = ("sitecustomize", "usercustomize")
"""Python imports them by itself when it starts."""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "note.md").write_text("# A note\n\nIt has two words or more.\n")
    (folder / "page.html").write_text("<title>A page</title><p>Read by a library.")
    return folder


def set_traps(folder: Path, told: Path, *, packages: bool) -> None:
    """Fill a folder with modules under the names of others; each tells that it ran, and ends."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*STANDARD, *INSTALLED, *OURS, *CUSTOM):
        path = folder / f"{name}.py"
        if packages:
            (folder / name).mkdir()
            path = folder / name / "__init__.py"
        trap = f"open({str(told)!r}, 'a').write({str(path)!r} + '\\n')\nraise SystemExit(3)\n"
        path.write_text(trap)


def in_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def in_a_foreign_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def in_an_empty_entry_of_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As ``PYTHONPATH=$PYTHONPATH:/some/where`` leaves it: the current folder counts."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    return in_the_current_folder(folder, monkeypatch)


def in_the_users_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # In a virtual environment Python looks for none.
    monkeypatch.setattr(sys, "executable", getattr(sys, "_base_executable", sys.executable))
    monkeypatch.setenv("PYTHONUSERBASE", str(folder))
    monkeypatch.delenv("PYTHONNOUSERSITE", raising=False)
    scheme = sysconfig.get_preferred_scheme("user")
    return Path(sysconfig.get_path("purelib", scheme, {"userbase": str(folder)}))


Placed = Callable[[Path, pytest.MonkeyPatch], Path]
PLACES: list[Placed] = [
    in_the_current_folder,
    in_a_foreign_path,
    in_an_empty_entry_of_the_path,
    in_the_users_packages,
]


@pytest.fixture(params=PLACES)
def foreign(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Path:
    folder = tmp_path / "foreign"
    folder.mkdir()
    place: Placed = request.param
    return place(folder, monkeypatch)


@pytest.mark.parametrize("packages", [False, True], ids=["modules", "packages"])
def test_no_foreign_code_reaches_a_reader(
    tmp_path: Path, documents: Path, minilm_folder: Path, foreign: Path, packages: bool
) -> None:
    told = tmp_path / "told"
    set_traps(foreign, told, packages=packages)
    with Readers(make_setup(minilm_folder), 1) as readers:
        outcomes = outcomes_of(readers, [Job(file, {}) for file in discover([documents]).files])
    assert [type(outcome) for outcome in outcomes] == [Parsed, Parsed]
    assert not told.exists(), told.read_text()


def test_pythons_own_variables_do_not_reach_a_reader(
    tmp_path: Path, documents: Path, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONPLATLIBDIR"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with Readers(make_setup(minilm_folder), 1) as readers:
        outcomes = outcomes_of(readers, [Job(file, {}) for file in discover([documents]).files])
    assert [type(outcome) for outcome in outcomes] == [Parsed, Parsed]


def run_probe(checkout: Path, code: str, *options: str) -> str:
    """Run code in a process that takes the program from a checkout; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-P", *options, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the program that is not installed, with a name that is not UTF-8."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/checkout \xff"))
    for package in (retrieval, indexer):
        source = Path(str(package.__file__)).parent
        shutil.copytree(
            source, root / source.name, ignore=shutil.ignore_patterns("__pycache__", "models")
        )
    (root / "indexer" / "probe.py").write_text(
        textwrap.dedent(
            """
            import json, queue, resource, sys

            import indexer, numpy, retrieval

            def main(argument):
                import indexer.readers.read_file as read_file, retrieval.errors
                modules = [indexer, read_file, retrieval, retrieval.errors, json, numpy]
                flags = {name: getattr(sys.flags, name) for name in dir(sys.flags)
                         if isinstance(getattr(sys.flags, name), int)}
                print(json.dumps({"argument": argument, "path": sys.path, "flags": flags,
                                  "files": [module.__file__ for module in modules]}))
            """
        )
    )
    return root


PROBE = """
    import subprocess, sys
    from indexer.readers.isolation import isolated_command
    sys.exit(subprocess.run(isolated_command("indexer.probe", "told")).returncode)
"""


def test_a_reader_runs_the_same_code_as_its_parent(checkout: Path) -> None:
    """Not what is installed, and nothing else of the folder where the program lies."""
    for name in ("queue.py", "resource.py"):
        (checkout / name).write_text("raise SystemExit(3)")
    probe = json.loads(run_probe(checkout, PROBE))
    assert probe["argument"] == "told"
    ours = ["indexer/__init__.py", "indexer/readers/read_file.py"]
    ours += ["retrieval/__init__.py", "retrieval/errors.py"]
    expected = [*(str(checkout / name) for name in ours), json.__file__, numpy.__file__]
    assert probe["files"] == expected
    assert probe["path"][-1] == str(checkout)


@pytest.mark.parametrize("utf8", [0, 1])
def test_names_of_files_mean_the_same_to_a_reader(checkout: Path, utf8: int) -> None:
    flags = json.loads(run_probe(checkout, PROBE, "-X", f"utf8={utf8}", "-B"))["flags"]
    asked = {"utf8_mode": utf8, "dont_write_bytecode": 1, "isolated": 1, "no_user_site": 1}
    assert {name: flags[name] for name in asked} == asked
