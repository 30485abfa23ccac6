"""The commands that look after an index, as a user types them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.indexer.commands.test_cli import assert_user_error, indexer
from tests.tiny_model import make_tiny_model


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with ``docs`` and an ``index`` of them: 60 documents, a folder of 20 among them."""
    model = make_tiny_model(tmp_path / "model")
    for number in range(60):
        path = tmp_path / "docs" / ("old" if number < 20 else "new") / f"{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"---\ntag: t{number % 3}\n---\n# Number {number}\n\nText {number}.\n")
    built = indexer("build", "docs", "--model", model, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    return tmp_path


def status(place: Path) -> dict[str, object]:
    shown: dict[str, object] = json.loads(indexer("status", "--json", cwd=place).stdout)
    return shown


def test_remove_compact_and_verify(place: Path) -> None:
    before = status(place)
    assert (before["documents"], before["unused_vectors"]) == (60, 0)
    assert (before["searched"], before["measured_recall"]) == ("exactly", 1.0)
    removed = indexer("remove", "docs/old/", "docs/new/59.md", "--json", cwd=place)
    assert removed.returncode == 0, removed.stderr
    assert len(json.loads(removed.stdout)["removed"]) == 21
    after = status(place)
    assert after["documents"] == 39
    assert after["unused_vectors"] == 0, "more than 30 % were unused: it compacts by itself"
    assert indexer("remove", "docs/new/58.md", cwd=place).stdout.endswith("1 document removed\n")
    assert int(str(status(place)["unused_vectors"])) > 0
    compacted = indexer("compact", cwd=place)
    assert "unused vector dropped" in compacted.stdout
    assert status(place)["unused_vectors"] == 0
    whole = indexer("verify", "--sample", "5", "--device", "cpu", cwd=place)
    assert (whole.returncode, whole.stdout) == (0, "index is whole\n"), whole.stderr
    # The files are still there: a build takes them in again, and embeds what was dropped.
    assert "22 added" in indexer("build", "docs", cwd=place).stdout
    assert status(place)["documents"] == 60


def test_what_cannot_be_removed_is_named(place: Path) -> None:
    result = indexer("remove", "docs/new/59.md", "docs/nope.md", cwd=place)
    assert_user_error(result, "'docs/nope.md'", "indexer list")
    assert "docs/new/59.md" in result.stdout
    assert status(place)["documents"] == 59
    for command in (("remove", "x"), ("compact",), ("verify",), ("status",)):
        assert_user_error(indexer(*command, "--index", place / "docs"), "is not an index")


def test_verify_names_the_damaged_file(place: Path) -> None:
    (path,) = (place / "index").glob("vectors-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = indexer("verify", "--json", cwd=place)
    assert result.returncode == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["file"] == path.name
    assert "error: index has 1 problem\n" in result.stderr


def test_verify_notices_another_model(place: Path) -> None:
    make_tiny_model(place / "model", "large_tt2")
    assert_user_error(indexer("verify", cwd=place), "another model")


def test_filters_on_the_command_line(place: Path) -> None:
    found = indexer(
        "search", "text", "-k", "100", "--filter", "path:new/** AND tag=t1", "--exact", "--json",
        cwd=place,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    uris = {passage["uri"] for passage in json.loads(found.stdout)["passages"]}
    assert uris == {f"docs/new/{number}.md" for number in range(20, 60) if number % 3 == 1}
    wrong = indexer("search", "text", "--filter", "path:new AND", cwd=place)
    assert_user_error(wrong, "at character 13: expected a field")


def test_the_type_of_the_index_can_be_said(place: Path) -> None:
    built = indexer("build", "docs", "--index-type", "hnsw", "--target-recall", "0.9", cwd=place)
    assert built.returncode == 0
    shown = status(place)
    assert (shown["index_type"], shown["target_recall"]) == ("hnsw", 0.9)
    assert shown["searched"] == "exactly", "so few vectors need no graph"


def test_words_that_an_older_version_made_are_named_and_made_anew(place: Path) -> None:
    assert status(place)["words"] == "searchable"
    with closing(sqlite3.connect(place / "index" / "index.db")) as connection, connection:
        connection.execute("UPDATE lexical_index SET analysis = analysis - 1")
    assert status(place)["words"] == "outdated"
    found = indexer("search", "text", "--json", cwd=place)
    assert "searched by meaning only" in found.stderr
    assert "`indexer build` once" in found.stderr
    assert json.loads(found.stdout)["passages"]
    refused = indexer("search", "text", "--mode", "lexical", cwd=place)
    assert_user_error(refused, "older version made it", "indexer build")
    assert indexer("build", "docs", cwd=place).returncode == 0
    assert status(place)["words"] == "searchable"
    assert indexer("search", "text", cwd=place).stderr == ""


def test_names_with_line_ends_stay_on_one_line(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "new\nline.md").write_text("---\ntag: |\n  a\n---\n# A title\u2028of two\n\nText.\n")
    (docs / "bad\nname.pdf").write_text("no PDF")
    build = ("build", "docs", "--model", "model", "--exclude", "x\ny")
    assert indexer(*build, cwd=tmp_path).returncode == 0
    shown = indexer("list", cwd=tmp_path).stdout
    assert shown == "docs/new\\nline.md  A title of two  [1 chunk]\n"
    skipped = indexer("list", "--skipped", cwd=tmp_path).stdout
    assert skipped.startswith("docs/bad\\nname.pdf: damaged")
    assert len(skipped.splitlines()) == 1
    document = indexer("show", "docs/new\nline.md", cwd=tmp_path).stdout
    assert document.startswith("docs/new\\nline.md  A title of two\nmarkdown, ")
    found = indexer("search", "text", cwd=tmp_path).stdout
    assert "docs/new\\nline.md:" in found
    assert "--exclude 'x\\ny'" in indexer("status", cwd=tmp_path).stdout
    assert indexer("remove", "docs/new\nline.md", cwd=tmp_path).stdout == (
        "docs/new\\nline.md\n1 document removed\n"
    )
