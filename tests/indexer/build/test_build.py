"""Whole builds over real files: what changes, what is reused, what survives a kill."""

import hashlib
import io
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer import staging
from indexer.build.build import build
from indexer.build.dry_run import dry_run
from indexer.build.plan import plan_build
from indexer.build.progress import SilentProgress
from indexer.build.report import BuildReport
from indexer.build.settings import BuildOptions
from indexer.files.discover import Discovery, discover
from retrieval.domain.metadata import MetadataValue
from retrieval.domain.records import FileChoice
from retrieval.errors import (
    IndexDamaged,
    InvalidArgument,
    ModelMismatch,
    RetrievalError,
    SourceError,
)
from retrieval.store import open_reader, open_writer, read_info, read_status, remove_documents
from retrieval.store.disk.vectors import tuning
from retrieval.store.disk.writing import maintenance
from tests.commands.forking import Forked, run_forked
from tests.indexer.commands.test_cli import indexer
from tests.tiny_model import make_tiny_model


class Workplace:
    """Documents, a tiny real model and an index, in one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.docs = folder / "docs"
        self.index = folder / "index"
        self.model = make_tiny_model(folder / "model")
        self.docs.mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def options(self, *docs: Path, **options: object) -> BuildOptions:
        settings = {"model": str(self.model), "chunk_tokens": 40, **options}
        return BuildOptions(docs=docs or (self.docs,), index=self.index, **settings)

    def build(self, *docs: Path, **options: object) -> BuildReport:
        return build(self.options(*docs, **options), SilentProgress())

    def uris(self) -> list[str]:
        with open_reader(self.index) as reader:
            return [document.uri for document in reader.documents(1000)]

    def metadata(self, uri: str) -> dict[str, MetadataValue]:
        with open_reader(self.index) as reader:
            return dict(reader.document_by_uri(uri).metadata)

    def content(self) -> tuple[list[tuple[object, ...]], NDArray[np.float32]]:
        """Everything an index holds that does not depend on how it came about: text and vectors."""
        texts: list[tuple[object, ...]] = []
        vectors = []
        with open_reader(self.index) as reader:
            for document in reader.documents(1000):
                text = reader.document_text(document.id)
                texts.append((document.uri, document.title, text))
                for ordinal in range(document.chunk_count):
                    p = reader.passage(document.id, ordinal)
                    texts.append((p.char_start, p.char_end, p.text, p.heading_path, p.token_count))
                    vectors.append(reader.passage_vector(document.id, ordinal))
        return texts, np.stack(vectors)


def assert_same_content(one: Workplace, other: Workplace, *, atol: float = 1e-6) -> None:
    """Equal texts, and equal vectors but for the rounding of sums in other batches."""
    (texts, vectors), (other_texts, other_vectors) = one.content(), other.content()
    assert texts == other_texts
    np.testing.assert_allclose(vectors, other_vectors, rtol=0, atol=atol)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def counts(report: BuildReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.removed, report.unchanged


def test_first_build_then_nothing_to_do(place: Workplace) -> None:
    place.write("a.md", "# Alpha\n\nFirst words.\n\n## Part\n\nMore words here.\n")
    place.write("b/c.rst", "Beta\n====\n\nSecond words.\n")
    place.write("d.html", "<title>Delta</title><h1>Delta</h1><p>Third words.</p>")
    place.write("e.txt", "Fourth words.")
    place.write("f.exe", "no")
    first = place.build()
    assert counts(first) == (4, 0, 0, 0)
    assert first.skipped == {"unsupported format": 1}
    assert first.chunks_embedded == first.info.chunks
    assert place.uris() == ["docs/a.md", "docs/b/c.rst", "docs/d.html", "docs/e.txt"]
    generation = read_info(place.index).generation
    again = place.build()
    assert counts(again) == (0, 0, 0, 4)
    assert again.chunks_embedded == again.tokens_embedded == 0
    assert again.skipped == {"unsupported format": 1}
    assert read_info(place.index).generation == generation
    assert again.load_seconds == 0


def test_only_what_changed_is_done(place: Workplace) -> None:
    for name in "abc":
        place.write(f"{name}.md", f"# {name}\n\nText of {name}, told at some length.\n")
    place.build()
    place.write("b.md", "# b\n\nAnother text of b.\n")
    (place.docs / "c.md").unlink()
    place.write("d.md", "# d\n\nA new text.\n")
    report = place.build()
    assert counts(report) == (1, 1, 1, 1)
    assert report.chunks_embedded == 2
    assert place.uris() == ["docs/a.md", "docs/b.md", "docs/d.md"]
    fresh = Workplace(place.folder / "fresh")
    for path in place.docs.iterdir():
        fresh.write(path.name, path.read_text())
    fresh.build()
    assert_same_content(place, fresh)


def test_moved_touched_and_copied_files_are_not_embedded_again(place: Workplace) -> None:
    a = place.write("a.md", "# Title\n\nSome text that stays the same.\n")
    b = place.write("b.md", "# Other\n\nSome more text.\n")
    place.build()
    a.rename(place.docs / "moved.md")
    os.utime(b, ns=(1, 1))
    place.write("copy/b2.md", b.read_text())
    report = place.build()
    assert counts(report) == (2, 0, 1, 1)
    assert report.chunks_embedded == 0
    assert report.chunks_reused == 2
    assert counts(place.build()) == (0, 0, 0, 3)
    with open_reader(place.index) as reader:
        assert reader.info.vectors == 2


def test_fields_from_a_sidecar(place: Workplace) -> None:
    place.write("a.md", "---\nteam: docs\nlevel: 2\n---\n# Own title\n\nSome text.\n")
    place.write("b.md", "# Other\n\nMore text.\n")
    place.write("a.md.meta.json", '{"Team": "search", "tag": ["x", "y"], "open": true, "n": 2.5}')
    assert counts(place.build()) == (2, 0, 0, 0)
    assert place.metadata("docs/a.md") == {
        "team": "search",
        "tag": ["x", "y"],
        "open": True,
        "n": 2.5,
        "level": 2,
    }
    assert counts(place.build()) == (0, 0, 0, 2)

    place.write("a.md.meta.json", '{"title": "Given title", "team": "other"}')
    report = place.build()
    assert counts(report) == (0, 1, 0, 1)
    assert report.chunks_embedded == 0, "no text has changed"
    assert place.metadata("docs/a.md")["team"] == "other"
    with open_reader(place.index) as reader:
        assert reader.document_by_uri("docs/a.md").title == "Given title"

    os.utime(place.docs / "a.md.meta.json", ns=(1, 1))
    assert counts(place.build()) == (0, 0, 0, 2)
    (place.docs / "a.md.meta.json").unlink()
    assert counts(place.build()) == (0, 1, 0, 1)
    assert place.metadata("docs/a.md") == {"team": "docs", "level": 2}


BAD_SIDECARS = {
    "{": "is not JSON: Expecting property name",
    "[1]": "must be an object",
    '{"a": ' + "[" * 9 + "1" + "]" * 9 + "}": "has field 'a' nested more than 8 deep",
    json.dumps({"a": [0] * 1001}): "more than 1000 values",
    json.dumps({"a": {"b": ["x" * 501]}}): "has field 'b' of more than 500",
    json.dumps({"a": "x" * 501}): "has field 'a' of more than 500",
    json.dumps({str(number): 1 for number in range(65)}): "more than 64 fields",
    '{"a": "' + "x" * 70_000 + '"}': "more than 65536 bytes",
    "[" * 60_000: "is not JSON",
}
"""What a sidecar may not hold, and how the document is skipped."""


def test_a_document_is_not_indexed_without_the_fields_it_should_have(place: Workplace) -> None:
    place.write("good.md", "# Other\n\nMore text.\n")
    for number in range(len(BAD_SIDECARS)):
        place.write(f"{number}.md", f"# Secret\n\nSome text {number}.\n")
        place.write(f"{number}.md.meta.json", '{"team": "search"}')
    assert not place.build().skipped
    for number, content in enumerate(BAD_SIDECARS):
        place.write(f"{number}.md.meta.json", content)
    for _ in range(2):
        assert place.build().skipped == {"bad sidecar": len(BAD_SIDECARS)}
        assert place.uris() == ["docs/good.md"]
    with open_reader(place.index) as reader:
        details = {skip.uri: skip.detail for skip in reader.skipped()}
    for number, detail in enumerate(BAD_SIDECARS.values()):
        assert detail in details[f"docs/{number}.md"]


def test_files_of_any_time_are_indexed(place: Workplace) -> None:
    """File systems hold times that a 64-bit number of nanoseconds does not."""
    years = []
    for year in (1500, 1970, 2262, 2300, 9999, 15000):
        names = (f"{year}.txt", f"{year}.txt.meta.json")
        place.write(names[0], f"a file about cows of {year}")
        place.write(names[1], '{"kind": "odd"}')
        seconds = int((year - 1970) * 365.2425 * 86400)
        with suppress(OverflowError):  # this file system has no such time
            for name in names:
                os.utime(place.docs / name, (seconds, seconds))
            years.append(year)
    assert 1970 in years
    assert counts(place.build()) == (6, 0, 0, 0)
    assert counts(place.build()) == (0, 0, 0, 6)
    with open_reader(place.index) as reader:
        for year in years:
            modified = reader.document_by_uri(f"docs/{year}.txt").modified_at
            assert datetime.fromisoformat(modified)
            if 1678 < year < 2262:
                assert abs(int(modified[:4]) - year) <= 1


def test_members_of_any_time_are_indexed(place: Workplace) -> None:
    times = (math.inf, math.nan, 1e300, -1e300, 2**62)
    with tarfile.open(place.docs / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for number, seconds in enumerate(times):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 4
            info.pax_headers["mtime"] = str(seconds)
            archive.addfile(info, io.BytesIO(b"cows"))
    assert counts(place.build()) == (len(times), 0, 0, 0)
    assert place.uris() == [f"docs/x.tar/{number}.txt" for number in range(len(times))]


def test_two_roots_and_single_files(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    other = place.folder / "wiki"
    other.mkdir()
    (other / "w.md").write_text("wiki text")
    note = place.folder / "note.txt"
    note.write_text("note text")
    place.build(place.docs, other, note)
    assert place.uris() == ["docs/a.md", "note.txt", "wiki/w.md"]
    (other / "w2.md").write_text("more wiki text")
    report = place.build(other)  # the other roots are left alone
    assert counts(report) == (1, 0, 0, 1)
    assert len(place.uris()) == 4


def test_another_folder_of_the_same_name_is_refused(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    place.build()
    twin = place.folder / "elsewhere" / "docs"
    twin.mkdir(parents=True)
    (twin / "a.md").write_text("another alpha")
    with pytest.raises(SourceError, match="already has a root named 'docs'"):
        place.build(twin)
    place.docs.rename(place.folder / "gone")
    assert counts(place.build(twin)) == (0, 1, 0, 0)  # the folder has moved: that is fine


def test_a_folder_that_lost_all_its_files_is_not_emptied(place: Workplace) -> None:
    path = place.write("a.md", "alpha text")
    place.build()
    path.unlink()
    with pytest.raises(SourceError, match="the index keeps the documents"):
        place.build()
    assert place.uris() == ["docs/a.md"]


def test_a_file_that_can_not_be_read_now_keeps_its_old_version(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a.md", "alpha text")
    path = place.write("b.md", "beta text")
    place.build()
    path.write_text("beta changed text")

    def misled(*args: Any, **options: Any) -> Discovery:
        found = discover(*args, **options)
        files = [replace(file, path=path.parent) for file in found.files if file.path == path]
        return replace(found, files=(found.files[0], *files))

    monkeypatch.setattr("indexer.build.settings.discover", misled)
    report = place.build()
    assert (report.kept, report.skipped) == (1, {"unreadable": 1})
    monkeypatch.undo()
    with open_reader(place.index) as reader:
        assert reader.document_text(reader.document_by_uri("docs/b.md").id) == "beta text"
        assert [(s.uri, s.reason, s.detail) for s in reader.skipped()] == [
            ("docs/b.md", "unreadable", "Is a directory")
        ]
    assert counts(place.build()) == (0, 1, 0, 1)
    with open_reader(place.index) as reader:
        assert reader.skipped() == []


def test_a_folder_that_can_not_be_read_now_keeps_its_documents(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a.md", "alpha text")
    place.write("part/b.md", "beta text")
    place.write("part/deep/c.md", "gamma text")
    place.write("party.md", "another text")
    place.build()
    real = os.scandir

    def failing(path: str | Path | int) -> object:
        if not isinstance(path, int) and Path(path).name == "part":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", failing)
    (place.docs / "party.md").unlink()
    report = place.build()
    assert counts(report) == (0, 0, 1, 1)
    assert (report.kept, report.skipped) == (2, {"unreadable": 1})
    assert place.uris() == ["docs/a.md", "docs/part/b.md", "docs/part/deep/c.md"]


def test_a_document_that_turns_binary_leaves_the_index(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    path = place.write("b.md", "beta text")
    place.build()
    path.write_bytes(b"\x00\x01\x02binary")
    report = place.build()
    assert counts(report) == (0, 0, 1, 1)
    assert report.skipped == {"binary": 1}
    path.write_bytes(b"")
    assert place.build().skipped == {"empty": 1}


def test_encodings_are_counted(place: Workplace) -> None:
    (place.docs / "latin.txt").write_bytes("café crème — à la carte".encode("cp1252"))
    (place.docs / "wide.txt").write_bytes("sixteen bits".encode("utf-16"))
    (place.docs / "bom.txt").write_bytes(b"\xef\xbb\xbfwith a mark")
    place.write("plain.txt", "plain")
    report = place.build()
    assert sum(report.encodings.values()) == 4
    assert report.encodings["utf-8"] == 1
    assert any(name.startswith("utf-16") for name in report.encodings)
    assert "decoded" in report.as_text()


def test_offsets_hold_in_the_index(place: Workplace) -> None:
    place.write(
        "a.md", "# Título\r\n\r\n" + "Één zin met 🎉 emoji. " * 40 + "\r\n\r\n## Deel\r\n\r\ntail"
    )
    place.build()
    with open_reader(place.index) as reader:
        (document,) = reader.documents(10)
        text = reader.document_text(document.id)
        assert document.chunk_count > 3
        for ordinal in range(document.chunk_count):
            passage = reader.passage(document.id, ordinal)
            assert text[passage.char_start : passage.char_end] == passage.text
            assert passage.line_start == text.count("\n", 0, passage.char_start) + 1


def test_whole_documents_are_truncated_aloud(place: Workplace) -> None:
    (place.model / "sentence_bert_config.json").write_text('{"max_seq_length": 50}')
    place.write("long.txt", "word " * 500)
    place.write("short.txt", "word")
    report = place.build(chunk_tokens=0)
    assert report.info.chunks == 2
    assert report.truncated == 1
    assert "1 truncated" in report.as_text()


def test_settings_belong_to_the_index(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    place.build()
    assert counts(place.build(model=None, chunk_tokens=None)) == (0, 0, 0, 1)
    with pytest.raises(ModelMismatch, match="--chunk-tokens 40, not with --chunk-tokens 30"):
        place.build(chunk_tokens=30)
    with pytest.raises(ModelMismatch, match="--dtype float32, not with --dtype bfloat16"):
        place.build(dtype="bfloat16")
    other = make_tiny_model(place.folder / "other", "base_ntk_short")
    with pytest.raises(ModelMismatch, match="another model"):
        place.build(model=str(other))
    assert place.uris() == ["docs/a.md"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_tokens": 9000}, "--chunk-tokens must be from 1 to 8190"),
        ({"chunk_tokens": 40, "chunk_overlap": 21}, "--chunk-overlap must be from 0 to half"),
        ({"exclude": ("",)}, "pattern is empty"),
    ],
)
def test_settings_out_of_range(place: Workplace, options: dict[str, object], message: str) -> None:
    place.write("a.md", "alpha text")
    with pytest.raises(InvalidArgument, match=message):
        place.build(**options)


def test_a_model_too_small_for_context(place: Workplace) -> None:
    (place.model / "sentence_bert_config.json").write_text('{"max_seq_length": 50}')
    place.write("a.md", "alpha text")
    with pytest.raises(InvalidArgument, match="reads only 50: build with --context none"):
        place.build(chunk_tokens=None, context=True)


def test_slow_models_commit_on_the_way(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are committed ahead of their documents, and found again after a crash."""
    monkeypatch.setattr(staging, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(staging, "SLICE_TOKENS", 50)
    for number in range(12):
        place.write(f"{number}.md", f"document number {number} " * 5)
    commits: list[int] = []

    class Failing(SilentProgress):
        def advance(self, *, chunks: int = 0, **_: object) -> None:
            commits.append(chunks)
            if len(commits) == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(
            BuildOptions((place.docs,), place.index, model=str(place.model), chunk_tokens=40),
            Failing(),
        )
    info = read_info(place.index)
    assert info.documents == 0
    assert info.vectors > 0
    report = place.build()
    assert report.chunks_reused == info.vectors
    assert report.added == 12


SLOWED = """
import sys, time
from indexer.build import embed
embed.WINDOW_CHUNKS = 8
from retrieval.encoding.encoder import Encoder
real = Encoder.embed
def slow(self, *args, **kwargs):
    time.sleep(0.05)
    return real(self, *args, **kwargs)
Encoder.embed = slow
from indexer.commands.cli import main
sys.argv = ["indexer", *sys.argv[1:]]
main()
"""


def test_kill_9_loses_nothing_that_was_committed(place: Workplace) -> None:
    for number in range(60):
        place.write(f"{number:02}.md", f"# Doc {number}\n\n" + f"words of {number}. " * 20)
    options = ["--model", str(place.model), "--chunk-tokens", "40", "--json"]
    command = [sys.executable, "-c", SLOWED, "build", str(place.docs), "--index", str(place.index)]
    embedded_before = 0
    for generation in (3, 9):
        process = Forked([*command, *options], stderr=subprocess.DEVNULL)
        wait_for_generation(place.index, generation)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        info = read_info(place.index)
        assert 0 < info.documents < 60
        assert info.vectors > embedded_before
        embedded_before = info.vectors
    finished = run_forked([*command, *options])
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["documents"]["total"] == 60
    assert report["documents"]["unchanged"] == info.documents
    undisturbed = Workplace(place.folder / "undisturbed")
    for path in place.docs.iterdir():
        undisturbed.write(path.name, path.read_text())
    whole = undisturbed.build()
    # Not one committed chunk was embedded again.
    assert report["chunks"]["embedded"] == whole.chunks_embedded - embedded_before
    # With AVX-512 a vector in a hundred was seen to differ by 7e-5 here, now and then.
    assert_same_content(place, undisturbed, atol=2e-4)


def wait_for_generation(index: Path, generation: int) -> None:
    while True:  # until pytest's own limit
        with suppress(RetrievalError):  # it is not there yet
            if read_info(index).generation >= generation:
                return
        time.sleep(0.02)


def test_content_keys_are_of_the_text() -> None:
    assert staging.content_key("é") == hashlib.sha256("é".encode()).digest()


def make_archive(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def test_an_archive_is_kept_in_step_by_its_members(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    archive = place.docs / "old.zip"
    make_archive(archive, {"b.md": "beta text", "c/c.md": "gamma text", "d.png": "x"})
    report = place.build()
    assert counts(report) == (3, 0, 0, 0)
    assert place.uris() == ["docs/a.md", "docs/old.zip/b.md", "docs/old.zip/c/c.md"]
    assert report.skipped == {"unsupported format": 1}

    report = place.build()
    assert counts(report) == (0, 0, 0, 3)
    assert report.skipped == {"unsupported format": 1}  # told again, though nothing was read
    assert report.load_seconds == 0

    make_archive(archive, {"b.md": "beta changed", "c/c.md": "gamma text", "e.md": "alpha text"})
    report = place.build()
    assert counts(report) == (1, 1, 0, 2)
    assert (report.chunks_embedded, report.chunks_reused) == (1, 1)
    assert not report.skipped

    make_archive(archive, {"e.md": "alpha text"})
    assert counts(place.build()) == (0, 0, 2, 2)
    archive.unlink()
    assert counts(place.build()) == (0, 0, 1, 1)
    assert place.uris() == ["docs/a.md"]


def test_files_of_a_message_are_kept_in_step(place: Workplace) -> None:
    def write(**files: str) -> None:
        message = EmailMessage()
        message["Subject"] = "Ducks"
        message.set_content("About ducks.")
        for name, text in files.items():
            message.add_attachment(text, filename=f"{name}.md")
        (place.docs / "a.eml").write_bytes(bytes(message))

    write(b="beta text", c="gamma text")
    assert counts(place.build()) == (3, 0, 0, 0)
    assert place.uris() == ["docs/a.eml", "docs/a.eml/b.md", "docs/a.eml/c.md"]
    again = place.build()
    assert (counts(again), again.load_seconds) == ((0, 0, 0, 3), 0)
    write(b="beta text", d="delta text")
    assert counts(place.build()) == (1, 1, 1, 1)
    assert counts(place.build(exclude=["d.md"])) == (0, 0, 1, 2)
    assert counts(place.build()) == (1, 0, 0, 2)
    (place.docs / "a.eml").rename(place.docs / "b.eml")
    assert counts(place.build()) == (3, 0, 3, 0)
    (place.docs / "b.eml").unlink()
    place.write("e.md", "epsilon")
    assert counts(place.build()) == (1, 0, 3, 0)


def test_an_archive_is_read_again_where_what_is_wanted_of_it_changes(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    make_archive(place.docs / "old.zip", {"b.md": "beta text", "c.md": "gamma text"})
    place.build()
    report = place.build(exclude=["c.md"])
    assert counts(report) == (0, 0, 1, 2)
    assert report.skipped == {"excluded": 1}
    assert counts(place.build()) == (1, 0, 0, 2)


def test_a_damaged_archive_is_told_of_and_tried_again(place: Workplace) -> None:
    place.write("a.md", "alpha text")
    archive = place.docs / "old.zip"
    make_archive(archive, {"b.md": "beta text"})
    good = archive.read_bytes()
    archive.write_bytes(good[:-30])
    for _ in range(2):
        report = place.build()
        assert report.skipped == {"damaged": 1}
        assert place.uris() == ["docs/a.md"]
    archive.write_bytes(good)
    assert counts(place.build()) == (1, 0, 0, 1)


def test_members_that_are_taken_out_come_back_with_the_next_build(place: Workplace) -> None:
    make_archive(place.docs / "old.zip", {"b.md": "beta text", "c.md": "gamma text"})
    place.build()
    assert remove_documents(place.index, ["docs/old.zip/b.md"])[0] == ["docs/old.zip/b.md"]
    assert counts(place.build()) == (1, 0, 0, 1)
    assert len(remove_documents(place.index, ["docs/old.zip"])[0]) == 2
    assert counts(place.build()) == (2, 0, 0, 0)


def test_a_member_that_kills_its_reader_is_the_only_one_that_is_lost(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "<p>one two three.\n" * 300_000
    with zipfile.ZipFile(place.docs / "old.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"a.md": "alpha", "b.html": long, "c.md": "gamma"}.items():
            archive.writestr(name, text)
    monkeypatch.setattr("indexer.build.settings.FILE_SECONDS", 0.3)
    report = place.build()
    assert place.uris() == ["docs/old.zip/a.md", "docs/old.zip/c.md"]
    assert report.skipped == {"took too long": 1}


@pytest.mark.parametrize(
    ("index_type", "expected"), [("auto", "are searched exactly"), ("ivf", "with recall@10")]
)
def test_a_recall_that_is_missed_is_told_of(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, index_type: str, expected: str
) -> None:
    monkeypatch.setattr(maintenance, "MIN_ANN_ROWS", 100)
    monkeypatch.setattr(maintenance, "EXACT_ROWS", 100)
    monkeypatch.setattr(tuning, "CANDIDATES", (10,))
    place.write("a.jsonl", "".join(json.dumps({"text": f"{n} {n * n}"}) + "\n" for n in range(400)))
    report = place.build(index_type=index_type, target_recall=1.0)
    (warning,) = report.warnings
    assert expected in warning
    assert "--target-recall" in warning
    assert warning in report.as_text()
    assert warning in report.as_line()
    assert report.as_json()["warnings"] == [warning]
    # For as long as it is so, in whatever process.
    assert place.build().warnings == [warning]
    shown = indexer("status", "--index", place.index, cwd=place.folder)
    assert f"warning            {warning}\n" in shown.stdout
    shown = indexer("status", "--index", place.index, "--json", cwd=place.folder)
    assert json.loads(shown.stdout)["warnings"] == [warning]
    monkeypatch.setattr(maintenance, "MIN_ANN_ROWS", 1000)
    assert place.build().warnings == []


def test_another_choice_of_files_is_told_of(place: Workplace) -> None:
    place.write("a.md", "# A\n\nOne.\n")
    place.write("drafts/b.md", "# B\n\nTwo.\n")
    place.write(".gitignore", "c.md\n")
    place.write("c.md", "# C\n\nThree.\n")
    assert place.build(exclude=["drafts/**", "it's *"]).warnings == []
    assert place.uris() == ["docs/a.md"]
    assert place.build(exclude=["drafts/**", "it's *"]).warnings == []
    for options, before, now, uris in (
        (
            {},
            "--exclude 'drafts/**' --exclude 'it'\"'\"'s *'",
            "the defaults",
            ["a.md", "drafts/b.md"],
        ),
        ({"include": ["drafts/"]}, "the defaults", "--include drafts/;", ["drafts/b.md"]),
        ({"use_ignore_files": False}, "--include", "--no-ignore", ["a.md", "c.md", "drafts/b.md"]),
        ({"listed": [str(place.docs / "a.md")]}, "--no-ignore", "a list of files", ["a.md"]),
        ({}, "a list of files", "the defaults", ["a.md", "drafts/b.md"]),
    ):
        planned = dry_run(place.options(**options), SilentProgress())
        report = place.build(**options)
        (warning,) = report.warnings
        assert planned.warnings == [warning]
        assert warning in planned.as_text()
        assert warning in report.as_text()
        assert f"the files of docs with {before}" in warning
        assert f"this build uses {now}" in warning
        assert place.uris() == [f"docs/{name}" for name in uris]
        assert place.build(**options).warnings == []


def test_each_root_has_a_choice_of_files(place: Workplace) -> None:
    other = place.folder / "other"
    other.mkdir()
    (other / "x.md").write_text("# X\n\nWords.\n")
    place.write("a.md", "# A\n\nOne.\n")
    place.build(exclude=["b.md"])
    assert place.build(other).warnings == []
    (warning,) = place.build(place.docs, other).warnings
    assert "the files of docs with --exclude b.md" in warning
    connection = sqlite3.connect(place.index / "index.db")
    connection.execute("UPDATE roots SET choice = '' WHERE name = 'docs'")  # by an older version
    connection.commit()
    connection.close()
    assert [root.choice for root in read_status(place.index).roots.values()] == [None, FileChoice()]
    assert place.build(exclude=["b.md"]).warnings == []
    built = indexer("build", place.docs, "--index", place.index, cwd=place.folder)
    assert "warning: the last build chose the files of docs with --exclude b.md" in built.stderr
    assert "  warning    the last build chose" in built.stdout
    shown = indexer("status", "--index", place.index, cwd=place.folder).stdout
    assert f"docs: {place.docs}\n" in shown
    shown = indexer("status", "--index", place.index, "--json", cwd=place.folder).stdout
    assert json.loads(shown)["roots"][0] == {
        "name": "docs",
        "path": str(place.docs),
        "choice": json.loads(json.dumps(asdict(FileChoice()))),
    }
    connection = sqlite3.connect(place.index / "index.db")
    connection.execute("UPDATE roots SET choice = '[1]'")
    connection.commit()
    connection.close()
    with pytest.raises(IndexDamaged, match="choice of files"):
        place.build()


def test_files_with_nothing_to_index_are_read_once(place: Workplace) -> None:
    place.write("a.md", "# A\n\nWords.\n")
    nothing = {"empty.txt": b"", "no.json": b"{}", "bad.docx": b"PK", "b.md": b"\0\1"}
    for name, data in nothing.items():
        (place.docs / name).write_bytes(data)
    (place.docs / "b.md.meta.json").write_text('{"tag": "x"}')  # a file with fields is read anew

    def to_read() -> set[str]:
        with open_writer(place.index) as writer:
            return {file.uri for file in plan_build(writer, discover([place.docs])).to_read}

    report = place.build()
    assert report.skipped.total() == 4
    assert to_read() == {"docs/b.md"}
    assert place.build().skipped == report.skipped
    assert place.uris() == ["docs/a.md"]
    place.write("no.json", '{"text": "Now it has words."}')
    assert to_read() == {"docs/b.md", "docs/no.json"}
    assert place.build().added == 1
    assert to_read() == {"docs/b.md"}
    place.write("empty.txt", "Filled.")
    place.write("a.md", "")
    report = place.build()
    assert (report.added, report.removed) == (1, 1)
    assert to_read() == {"docs/b.md"}
    assert place.build(reread=True).changed == 2
