"""What an index is built with: context, text fields; and the commands that show what was made."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from indexer.build.dry_run import dry_run
from indexer.build.progress import SilentProgress
from indexer.commands.cli import cli
from indexer.commands.maintain import compare_sample
from retrieval.domain.embedded_text import embedded_text
from retrieval.domain.records import ReadSettings
from retrieval.errors import ModelMismatch
from retrieval.store import open_reader, read_info, verify
from tests.indexer.build.test_build import Workplace
from tests.indexer.commands.test_cli import indexer

GUIDE = "# Guide\n\nSome words.\n\n## Part\n\n" + " ".join(f"Is {n} more?" for n in range(40))


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("title", "path", "expected"),
    [
        ("Guide", ("Guide", "Part"), "Guide › Part\n\ntext"),
        ("File", ("Guide",), "File › Guide\n\ntext"),
        ("File", (), "File\n\ntext"),
        ("T", ("x" * 200,), "x" * 160 + "\n\ntext"),
    ],
)
def test_context_is_title_and_headings(title: str, path: tuple[str, ...], expected: str) -> None:
    assert embedded_text("text", title=title, heading_path=path, context=True) == expected
    assert embedded_text("text", title=title, heading_path=path, context=False) == "text"


def test_context_is_embedded_and_not_returned(place: Workplace) -> None:
    place.write("a.md", GUIDE)
    place.write("b.txt", "The same words.")
    place.write("c.txt", "The same words.")
    plain = Workplace(place.folder / "plain")
    for name in ("a.md", "b.txt", "c.txt"):
        plain.write(name, (place.docs / name).read_text())
    place.build(context=True)
    assert read_info(place.index).chunking.context
    assert plain.build().chunks_reused == 1
    (texts, vectors), (plain_texts, plain_vectors) = place.content(), plain.content()
    assert texts == plain_texts
    assert abs(vectors - plain_vectors).max() > 0.01
    with open_reader(place.index) as reader:
        document = reader.document_by_uri("docs/a.md")
        assert not reader.passage(document.id, 0).text.startswith("Guide ›")
    assert list(verify(place.index)) == []
    assert compare_sample(place.index, 100) == []
    assert place.build().chunks_embedded == 0  # the index's own setting
    place.write("a.md", GUIDE.replace("## Part", "## Other part"))
    assert place.build().chunks_embedded > 0
    assert list(verify(place.index)) == []
    with pytest.raises(ModelMismatch, match="made with --context"):
        place.build(context=False)


def test_text_fields_of_json(place: Workplace) -> None:
    record = {"question": "Why?", "answer": {"body": "Because."}, "text": "noise", "lang": "en"}
    place.write("a.jsonl", json.dumps(record) + "\n" + json.dumps({"question": "How?"}) + "\n")
    place.write("b.json", json.dumps([record]))
    place.build(text_fields=("question", "answer.body"))
    assert place.uris() == ["docs/a.jsonl/1.json", "docs/a.jsonl/2.json", "docs/b.json"]
    with open_reader(place.index) as reader:
        document = reader.document_by_uri("docs/a.jsonl/1.json")
        assert reader.document_text(document.id) == "Why?\n\nBecause."
    assert place.metadata("docs/a.jsonl/1.json") == {"text": "noise", "lang": "en"}
    assert place.build().unchanged == 3
    with pytest.raises(ModelMismatch, match="made with --text-field"):
        place.build(text_fields=("text",))


def test_messages_of_a_mailbox_are_documents(place: Workplace) -> None:
    place.write("a.mbox", "From x\nSubject: One\n\nFirst.\n\nFrom y\nSubject: Two\n\nSecond.\n")
    place.build()
    assert place.uris() == ["docs/a.mbox/1.eml", "docs/a.mbox/2.eml"]


def test_show(place: Workplace) -> None:
    place.write("a.md", GUIDE)
    place.build(chunk_tokens=80, chunk_overlap=40)
    shown = run("show", "docs/a.md", "--index", str(place.index))
    assert shown.startswith("docs/a.md  Guide\nmarkdown, utf-8, ")
    assert "──── 1 · characters 0-" in shown
    assert "characters repeated · Guide › Part\n" in shown
    answer = json.loads(run("show", "docs/a.md", "--index", str(place.index), "--json"))
    assert answer["uri"] == "docs/a.md"
    text = GUIDE.strip()
    for passage in answer["passages"]:
        assert text[passage["char_start"] : passage["char_end"]] == passage["text"]
    missing = CliRunner().invoke(cli, ["show", "docs/x.md", "--index", str(place.index)])
    assert "has no 'docs/x.md'; `indexer list` shows its documents" in str(missing.exception)


def test_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.parse.ocr.recognize.is_installed", lambda: True)
    shown = run("formats")
    assert re.search(r"^Word +\.docx \.docm", shown, re.MULTILINE)
    assert " README " in shown
    answer = json.loads(run("formats", "--json"))
    assert answer["formats"]["PDF"] == [".pdf"]
    assert answer["extras"] == []  # all are installed here


def test_formats_name_what_an_extra_would_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.parse.plain.code.find_spec", lambda name: None)
    monkeypatch.setattr("indexer.parse.ocr.recognize.is_installed", lambda: False)
    assert "pip install 'gte-retrieval[code]'" in run("formats")
    ocr, extra = json.loads(run("formats", "--json"))["extras"]
    assert ocr == {
        "install": "pip install 'gte-retrieval[ocr]'",
        "reads": [".png", ".jpg", ".jpeg", ".tif", ".tiff"],
    }
    assert ".go" in extra["sections_in"]
    assert ".py" not in extra["sections_in"]


def test_a_dry_run_says_what_a_build_does(place: Workplace) -> None:
    for number in range(90):
        place.write(f"{number}.md", f"# Part {number}\n\n" + f"Word {number} again. " * 20)
    place.write("empty.md", "")
    place.write("b.exe", "x")
    before = sorted(place.folder.iterdir())
    expected = dry_run(place.options(), SilentProgress())
    assert sorted(place.folder.iterdir()) == before  # nothing is written
    assert (expected.added, expected.changed, expected.removed) == (90, 0, 0)
    assert expected.skipped == {"empty": 1, "unsupported format": 1}
    assert 30 <= expected.sampled_files <= 64
    report = place.build()
    assert report.info is not None
    assert expected.estimated_tokens == pytest.approx(report.info.tokens, rel=0.2)
    assert expected.estimated_chunks == pytest.approx(report.info.chunks, rel=0.2)
    assert expected.estimated_seconds > 0
    generation = read_info(place.index).generation

    place.write("1.md", "Changed.")
    (place.docs / "2.md").unlink()
    again = dry_run(place.options(), SilentProgress())
    assert (again.added, again.changed, again.removed, again.unchanged) == (0, 1, 1, 88)
    assert read_info(place.index).generation == generation
    assert "would read 0 new and 1 changed file (" in again.as_text()
    assert json.loads(json.dumps(again.as_json()))["unchanged"] == 88
    with pytest.raises(ModelMismatch):
        dry_run(place.options(chunk_tokens=50), SilentProgress())


def test_other_settings_of_reading_read_all_files_again(place: Workplace) -> None:
    place.write("a.md", GUIDE)
    (place.docs / "b.txt").write_bytes("Чайник пора чистить.".encode("cp1251"))
    with zipfile.ZipFile(place.docs / "c.zip", "w") as archive:
        archive.writestr("inside.txt", "Within.")
    place.build()
    assert place.build().unchanged == 3
    report = place.build(reading=ReadSettings(encoding="cp1251"))
    (warning,) = report.warnings
    assert "this build uses --encoding cp1251; all files are read again, and documents" in warning
    assert (report.changed, report.unchanged) == (3, 0)
    again = place.build(reading=ReadSettings(encoding="cp1251"))
    assert (again.changed, again.unchanged, again.warnings) == (0, 3, [])


def test_all_files_are_read_again_where_asked_for(place: Workplace) -> None:
    place.write("a.md", GUIDE)
    with zipfile.ZipFile(place.docs / "c.zip", "w") as archive:
        archive.writestr("inside.txt", "Within.")
    place.build()
    report = place.build(reread=True)
    assert (report.changed, report.unchanged, report.chunks_embedded) == (2, 0, 0)
    assert list(verify(place.index)) == []
    assert place.build().unchanged == 2


def test_an_encoding_that_is_none_is_refused(place: Workplace) -> None:
    for wrong in ("klingon", "base64"):
        refused = indexer("build", place.docs, "--encoding", wrong, cwd=place.folder)
        assert refused.returncode == 2
        assert "is no encoding; try a name such as cp1251" in refused.stderr
