"""What makes this a project that people can join: licence, package, workflows, changelog."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml

import retrieval

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_LICENCE = Path("/usr/share/common-licenses/Apache-2.0")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [ROOT / ".github" / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.name


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]
    return found


def steps(workflow: Path, key: str) -> list[str]:
    """Values of all steps of a workflow that have a key."""
    every = [step for job in jobs(workflow).values() for step in job["steps"]]
    return [step[key] for step in every if key in step]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> Message:
    with zipfile.ZipFile(built[1]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(wheel.read(name))


def test_the_licence_is_the_text_of_apache_2() -> None:
    licence = text("LICENSE")
    assert "Apache License\n                           Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    if SYSTEM_LICENCE.exists():
        assert licence == SYSTEM_LICENCE.read_text(encoding="utf-8")


def test_the_wheel_has_types_licence_model_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        licence = next(name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert wheel.read(licence).decode() == text("LICENSE")
    assert "indexer/py.typed" in names
    assert "retrieval/models/mini-gte-en-v1/model.safetensors" in names
    contract = {path.relative_to(ROOT / "proto") for path in (ROOT / "proto").rglob("*.proto")}
    shipped = {name for name in names if name.startswith("retrieval/protos/")}
    assert shipped == {f"retrieval/protos/{path.as_posix()}" for path in contract}
    tops = {name.split("/")[0] for name in names}
    assert tops == {"retrieval", "indexer", f"gte_retrieval-{retrieval.__version__}.dist-info"}


def test_every_module_is_in_one_of_the_two_wheels(
    built: tuple[Path, Path], client_built: tuple[Path, Path]
) -> None:
    with zipfile.ZipFile(built[1]) as whole, zipfile.ZipFile(client_built[1]) as client:
        names = [*whole.namelist(), *client.namelist()]
    assert len(names) == len(set(names)), "an install of one would overwrite a file of the other"
    code = {
        path.relative_to(ROOT).as_posix()
        for package in ("retrieval", "indexer")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == code


def test_the_source_archive_has_what_its_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "CHANGELOG.md", "Makefile", "pyproject.toml", "docs/index.md"}
    needed |= {"proto/released.binpb", "tests/conftest.py", ".github/workflows/ci.yml"}
    needed |= {"tests/golden/base_ntk_short/model.safetensors"}
    assert needed <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]


def test_the_metadata_says_what_is_so(metadata: Message) -> None:
    assert metadata["Name"] == "gte-retrieval"
    assert metadata["Version"] == retrieval.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_supported_versions_of_python_agree() -> None:
    classifiers = [
        match[1]
        for each in PROJECT["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each))
    ]
    assert jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]["python"] == (
        classifiers
    )
    first = PROJECT["requires-python"].removeprefix(">=")
    assert first.startswith(f"{classifiers[0]}.")
    others = f"{', '.join(classifiers[1:-1])} or {classifiers[-1]}"
    named = f"Python {classifiers[0]} (from {first}), {others}"
    assert named in " ".join(text("CONTRIBUTING.md").split())
    assert f"Python ≥ {first}," in text("README.md")
    major, minor, patch = first.split(".")
    assert f"sys.version_info < ({major}, {minor}, {patch})" in text("Makefile")
    settings = tomllib.loads(text("pyproject.toml"))["tool"]
    assert settings["mypy"]["python_version"] == classifiers[0]
    assert settings["ruff"]["target-version"] == f"py{major}{minor}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_workflows_call_targets_of_make_that_exist(workflow: Path) -> None:
    called = [command.split() for command in steps(workflow, "run")]
    assert {words[0] for words in called} == {"make"}
    assert {words[1] for words in called} <= make_targets()


def test_workflows_run_everything() -> None:
    called = {command for workflow in WORKFLOWS for command in steps(workflow, "run")}
    for target in ("test", "check", "coverage", "dist", "test-slow", "fuzz"):
        assert f"make {target}" in called


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_workflows_may_only_read(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {"contents": "read"}
    assert content["concurrency"]
    for job in jobs(workflow).values():
        assert "permissions" not in job
        assert job["timeout-minutes"]
    for action in steps(workflow, "uses"):
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", action)
    for settings in steps(workflow, "with"):
        assert settings != {} and settings.get("persist-credentials") in {None, False}


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_issue_forms_are_forms(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= set(content)
    ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert len(set(ids)) == len(ids)
    for field in content["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"].get("label") or field["type"] == "markdown"


def test_hooks_run_the_tools_of_make() -> None:
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program, *words = hook["entry"].split()
        assert hook["language"] == "system"
        if program == "make":
            assert words[0] in make_targets()
        else:
            assert f"$(BIN)/{program.removeprefix('.venv/bin/')} {words[0]}" in text("Makefile")


def test_the_changelog_has_the_current_version() -> None:
    headings = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", text("CHANGELOG.md"), re.M)
    versions = [version for version, _ in headings]
    assert versions[0] == "Unreleased"
    assert versions[1] == retrieval.__version__
    assert all(date for _, date in headings[1:])
    dates = [date for _, date in headings[1:]]
    assert dates == sorted(dates, reverse=True)
    kinds = set(re.findall(r"^### (.+)$", text("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_contributors_are_told_of_all_targets() -> None:
    documented = set(re.findall(r"^\| `make ([a-z-]+)` \|", text("CONTRIBUTING.md"), re.MULTILINE))
    assert documented <= make_targets()
    helped = set(re.findall(r"^([a-z-]+):.*##", text("Makefile"), re.MULTILINE))
    assert helped - documented <= {"help", "install", "clean", "release-contract"}
