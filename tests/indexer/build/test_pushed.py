"""Builds beside a service that writes documents over the API: each leaves the other's alone."""

import json
from pathlib import Path

import pytest

from indexer import staging
from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from indexer.staging import Stager, one_by_one, prepare
from retrieval.domain.records import Document, RootInfo, Section, SourceFile
from retrieval.encoding.encoder import Encoder
from retrieval.errors import ForeignRoot, SourceError
from retrieval.store import open_reader, open_writer, remove_documents, verify
from tests.indexer.build.test_build import Workplace
from tests.indexer.commands.test_cli import indexer
from tests.store.test_store import staged


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(tmp_path)
    made.write("a.md", "# Alpha\n\nSome words.\n")
    return made


def push(place: Workplace, root: str, name: str, text: str) -> None:
    """Put a document of one chunk as a service does."""
    encoder = Encoder.load(str(place.model), device="cpu")
    made = staged(f"{root}/{name}", [text], [0])
    document = Document(f"{root}/{name}", name, "text", text, (Section(0, ()),))
    source = SourceFile(Path("/x"), f"{root}/{name}", root, len(text), 1)
    one = prepare(document, source, "0" * 64, [made.chunks[0].chunk], context=False)
    with open_writer(place.index, shared=True) as writer:

        def write(commit: staging.Commit, put: staging.Put) -> None:
            commit.claim_root(RootInfo(root))
            put(one)

        embed = one_by_one(lambda texts: encoder.embed(texts, "passage"))
        Stager(writer, embed).commit([one], write)


def test_a_build_leaves_pushed_documents_alone(place: Workplace) -> None:
    place.build()
    push(place, "notes", "n", "A pushed note.")
    (place.docs / "a.md").unlink()
    place.write("b.md", "# Beta\n\nOther words.\n")
    report = place.build(reread=True)
    assert (report.added, report.removed) == (1, 1)
    assert place.uris() == ["docs/b.md", "notes/n"]
    assert list(verify(place.index)) == []


def test_a_folder_named_like_a_pushed_root_is_refused(place: Workplace) -> None:
    place.build()
    push(place, "notes", "n", "A pushed note.")
    place.docs = place.docs.rename(place.folder / "notes")
    with pytest.raises(SourceError, match=r"notes/ are written over the API; rename .*notes, or"):
        place.build()
    with pytest.raises(SourceError, match="written over the API"):
        place.build(reread=True)
    assert place.uris() == ["docs/a.md", "notes/n"]


def test_a_root_that_a_build_made_takes_no_pushed_documents(place: Workplace) -> None:
    place.build()
    with pytest.raises(ForeignRoot, match=r"docs/ come from a folder"):
        push(place, "docs", "n", "A pushed note.")
    assert place.uris() == ["docs/a.md"]


@pytest.mark.parametrize("first", ["docs", "notes"])
def test_both_write_while_a_build_runs(place: Workplace, first: str) -> None:
    """Also a root of the same name, which belongs to the one that commits first."""
    place.build()
    place.docs = place.docs.rename(place.folder / "notes")
    pushed = list[str]()

    class Pushing(SilentProgress):
        """Pushes a document once the build has embedded its own."""

        def advance(self, *, chunks: int = 0, **_: object) -> None:
            if chunks and not pushed:
                pushed.append(first)
                push(place, first if first == "notes" else "other", "n", "A pushed note.")

    place.write("b.md", "# Beta\n\nOther words.\n")
    options = BuildOptions((place.docs,), place.index, model=str(place.model), chunk_tokens=40)
    if first == "notes":
        with pytest.raises(ForeignRoot, match="notes/ are written over the API"):
            build(options, Pushing())
        assert place.uris() == ["docs/a.md", "notes/n"]
    else:
        assert build(options, Pushing()).added == 2
        assert place.uris() == ["docs/a.md", "notes/a.md", "notes/b.md", "other/n"]
        with pytest.raises(ForeignRoot, match="come from a folder"):
            push(place, "notes", "n", "Too late.")
    assert pushed
    assert list(verify(place.index)) == []


def test_pushed_roots_in_the_commands(place: Workplace) -> None:
    place.build()
    push(place, "notes", "n", "A pushed note.")
    run = lambda *words: indexer(*words, "--index", place.index, cwd=place.folder)  # noqa: E731
    assert "root               notes: written over the API\n" in run("status").stdout
    roots = json.loads(run("status", "--json").stdout)["roots"]
    assert [(root["name"], bool(root["path"])) for root in roots] == [
        ("docs", True),
        ("notes", False),
    ]
    assert "notes/n" in run("list").stdout
    assert remove_documents(place.index, ["notes"]) == (["notes/n"], [])
    with open_reader(place.index) as reader:
        assert [row.uri for row in reader.documents(9)] == ["docs/a.md"]
