"""Finding files: what is listed, what is skipped and why, on real folders."""

import inspect
import os
import sys
from pathlib import Path

import pytest

from indexer.files import discover as module
from indexer.files.discover import Discovery, discover
from indexer.parse.formats import DOCUMENT_EXTENSIONS
from retrieval.errors import InvalidArgument, SourceError


def write(path: Path, text: str = "text\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


def uris(found: Discovery) -> list[str]:
    return [file.uri for file in found.files]


def reasons(found: Discovery) -> dict[str, str]:
    return {skip.uri: skip.reason for skip in found.skipped}


def test_files_come_sorted_with_size_and_time(root: Path) -> None:
    for name in ("b.md", "a/z.RST", "a/b.html", "a.txt"):
        write(root / name)
    found = discover([root])
    assert uris(found) == ["docs/a.txt", "docs/a/b.html", "docs/a/z.RST", "docs/b.md"]
    assert found == discover([root])
    first = found.files[0]
    assert (first.path, first.root, first.size) == (root / "a.txt", "docs", 5)
    assert first.mtime_ns == (root / "a.txt").stat().st_mtime_ns


def test_every_handled_extension_is_found(root: Path) -> None:
    for extension in DOCUMENT_EXTENSIONS:
        write(root / f"file{extension}")
    found = discover([root])
    assert len(found.files) + len(found.skipped) == len(DOCUMENT_EXTENSIONS)
    assert all("needs pip install" in skip.detail for skip in found.skipped), "an extra"
    assert found.unsure == frozenset()


def test_reasons_of_skipped_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.parse.formats.MAX_FILE_BYTES", 10)
    write(root / "film.MP4")
    write(root / "program.exe")
    write(root / "empty.md", "")
    write(root / "large.md", "x" * 11)
    write(root / ".hidden.md")
    write(root / ".git" / "notes.md")
    os.mkfifo(root / "pipe.md")
    found = discover([root])
    assert uris(found) == []
    assert reasons(found) == {
        "docs/film.MP4": "unsupported format",
        "docs/program.exe": "unsupported format",
        "docs/empty.md": "empty",
        "docs/large.md": "too large",
        "docs/.hidden.md": "hidden",
        "docs/.git": "hidden",
        "docs/pipe.md": "not a regular file",
    }
    details = {skip.uri: skip.detail for skip in found.skipped}
    assert details["docs/film.MP4"] == ".mp4"
    assert details["docs/large.md"] == "11 bytes, at most 10"
    assert [skip.uri for skip in found.skipped] == sorted(details)


def test_sidecars_go_with_their_documents(root: Path) -> None:
    write(root / "a.md")
    write(root / "a.md.meta.json", "{}")
    write(root / "b.md")
    write(root / "gone.md.meta.json", "{}")
    (root / "folder").mkdir()
    write(root / "folder" / "real.md")
    found = discover([root], include=["*.md"])
    sidecars = {file.uri: file.sidecar for file in found.files}
    assert sidecars["docs/b.md"] is None
    assert sidecars["docs/a.md"] is not None
    assert sidecars["docs/a.md"].path == root / "a.md.meta.json"
    assert reasons(found) == {"docs/gone.md.meta.json": "sidecar of nothing"}


def test_a_single_file_brings_its_sidecar(root: Path) -> None:
    write(root / "a.md")
    write(root / "a.md.meta.json", "{}")
    (file,) = discover([root / "a.md"]).files
    assert file.uri == "a.md"
    assert file.sidecar is not None
    assert file.sidecar.uri == "a.md.meta.json"


def test_a_single_file_is_a_root(root: Path) -> None:
    found = discover([write(root / "guide.md"), write(root / ".notes.txt")])
    assert uris(found) == [".notes.txt", "guide.md"]
    assert [file.root for file in found.files] == [".notes.txt", "guide.md"]


def test_a_single_file_that_is_not_handled_is_skipped(root: Path) -> None:
    assert reasons(discover([write(root / "a.exe")])) == {"a.exe": "unsupported format"}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], ["a.md", "a.txt", "sub/a.md", "sub/deep/b.md"]),
        (["*.md"], [], ["a.md", "sub/a.md", "sub/deep/b.md"]),
        (["sub/*.md"], [], ["sub/a.md"]),
        (["sub/**"], [], ["sub/a.md", "sub/deep/b.md"]),
        ([], ["sub"], ["a.md", "a.txt"]),
        ([], ["deep/"], ["a.md", "a.txt", "sub/a.md"]),
        (["*.md"], ["/a.md"], ["sub/a.md", "sub/deep/b.md"]),
        (["**/b.md", "a.txt"], [], ["a.txt", "sub/deep/b.md"]),
        (["nothing"], [], []),
    ],
)
def test_patterns(root: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    for name in ("a.md", "a.txt", "sub/a.md", "sub/deep/b.md"):
        write(root / name)
    found = discover([root], include, exclude)
    assert uris(found) == [f"docs/{name}" for name in expected]
    assert set(reasons(found).values()) <= {"excluded"}


def test_an_excluded_folder_is_one_entry(root: Path) -> None:
    write(root / "drafts" / "a.md")
    write(root / "drafts" / "b.md")
    assert reasons(discover([root], exclude=["drafts"])) == {"docs/drafts": "excluded"}


def test_a_pattern_may_start_with_a_hash(root: Path) -> None:
    write(root / "#a.md")
    assert uris(discover([root], exclude=["#*"])) == []


@pytest.mark.parametrize("pattern", ["", "  ", "!", "a\\"])
def test_malformed_patterns_are_refused(root: Path, pattern: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        discover([root], exclude=[pattern])
    assert caught.value.metadata == {"field": "exclude"}


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file or folder: .*nowhere"):
        discover([tmp_path / "nowhere"])
    with pytest.raises(SourceError, match="no such file or folder"):
        discover([write(tmp_path / "a.md") / "b.md"])


def test_unusable_roots(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        discover([tmp_path / "pipe"])
    with pytest.raises(SourceError, match="can't read"):
        discover([tmp_path / "loop"])
    with pytest.raises(SourceError, match="can't read"):
        discover([Path("a\0b")])
    with pytest.raises(SourceError, match="root of the file system"):
        discover([Path("/")])


def test_the_same_root_twice_counts_once(root: Path, tmp_path: Path) -> None:
    write(root / "a.md")
    (tmp_path / "link").symlink_to(root)
    assert uris(discover([root, root / ".." / "docs", tmp_path / "link"])) == ["docs/a.md"]


def test_two_roots_of_the_same_name(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "docs", tmp_path / "b" / "docs"
    one.mkdir(parents=True)
    two.mkdir(parents=True)
    with pytest.raises(SourceError, match="same name 'docs'") as caught:
        discover([one, two])
    assert str(one) in caught.value.message
    assert str(two) in caught.value.message


@pytest.mark.parametrize("outer_first", [True, False])
def test_nested_roots(root: Path, *, outer_first: bool) -> None:
    inner = write(root / "sub" / "a.md").parent
    roots = [root, inner] if outer_first else [inner, root]
    with pytest.raises(SourceError, match=r"docs/sub lies in .*docs;"):
        discover(roots)


def test_odd_names(root: Path) -> None:
    names = ["with space.md", "quote'\".md", "new\nline.md", "emoji 🦀.md", "[a]*?.md", "-x.md"]
    for name in names:
        write(root / name)
    found = discover([root])
    assert uris(found) == sorted(f"docs/{name}" for name in names)
    assert all(file.path.read_text() == "text\n" for file in found.files)


def test_names_that_are_not_utf8(root: Path) -> None:
    (root / os.fsdecode(b"caf\xe9.md")).write_text("x")
    (file,) = discover([root]).files
    assert file.uri == "docs/caf\\xe9.md"
    assert file.uri.encode()
    assert file.path.read_text() == "x"


def test_names_that_look_the_same_are_not_both_listed(root: Path) -> None:
    (root / os.fsdecode(b"\xe9.md")).write_text("x")
    write(root / "\\xe9.md")
    found = discover([root])
    assert uris(found) == ["docs/\\xe9.md"]
    assert reasons(found) == {"docs/\\xe9.md": "duplicate name"}


def test_links(root: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "other" / "secret.md")
    write(root / "real" / "a.md")
    links = {
        "file.md": "real/a.md",
        "folder": "real",
        "broken.md": "nothing.md",
        "through.md": "real/a.md/b.md",
        "self.md": "self.md",
        "real/up": "..",
        "here": ".",
        "outside.md": str(outside),
        "outside": str(outside.parent),
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = discover([root])
    assert uris(found) == ["docs/real/a.md"]
    assert reasons(found) == {
        "docs/file.md": "duplicate link",
        "docs/folder": "duplicate link",
        "docs/broken.md": "broken symlink",
        "docs/through.md": "broken symlink",
        "docs/self.md": "link loop",
        "docs/real/up": "link loop",
        "docs/here": "link loop",
        "docs/outside.md": "outside root",
        "docs/outside": "outside root",
    }


def test_links_to_hidden_files_are_followed_once(root: Path) -> None:
    # As a mounted ConfigMap is laid out.
    write(root / "..2024" / "a.md")
    write(root / "..2024" / "sub" / "b.md")
    (root / "..2024" / "sub" / "again").symlink_to("..")
    (root / "..data").symlink_to("..2024")
    (root / "a.md").symlink_to("..data/a.md")
    (root / "all").symlink_to("..data")
    (root / "more").symlink_to("..2024/sub")
    found = discover([root])
    assert uris(found) == ["docs/a.md", "docs/all/sub/b.md"]
    assert reasons(found) == {
        "docs/..2024": "hidden",
        "docs/..data": "hidden",
        "docs/all/a.md": "duplicate link",
        "docs/all/sub/again": "link loop",
        "docs/more": "duplicate link",
    }
    assert found.files[0].path == root / "..2024" / "a.md"


def test_excluded_links_are_not_followed(root: Path) -> None:
    write(root / ".kept" / "a.md")
    (root / "folder").symlink_to(".kept")
    (root / "file.md").symlink_to(".kept/a.md")
    found = discover([root], exclude=["folder", "file.md"])
    assert uris(found) == []
    assert reasons(found)["docs/folder"] == reasons(found)["docs/file.md"] == "excluded"


def test_a_deep_folder_does_not_recurse(root: Path) -> None:
    folder = root
    for _ in range(400):
        folder /= "d"
        folder.mkdir()
    (folder / "a.md").write_text("text")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        assert len(discover([root]).files) == 1
    finally:
        sys.setrecursionlimit(limit)


def test_a_file_that_vanishes_is_unreadable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "a.md")
    gone = write(root / "b.md")
    real_lstat = os.lstat

    def lstat(path: str) -> os.stat_result:
        if path == str(gone):
            gone.unlink(missing_ok=True)
        return real_lstat(path)

    monkeypatch.setattr(module.os, "lstat", lstat)
    found = discover([root])
    assert uris(found) == ["docs/a.md"]
    assert [(skip.reason, skip.detail) for skip in found.skipped] == [
        ("unreadable", "No such file or directory")
    ]


def test_a_folder_that_can_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not stop the superuser, whom tests may run as.
    write(root / "a.md")
    locked = write(root / "locked" / "b.md").parent
    deny(monkeypatch, locked)
    found = discover([root])
    assert uris(found) == ["docs/a.md"]
    assert [(skip.uri, skip.reason, skip.detail) for skip in found.skipped] == [
        ("docs/locked", "unreadable", "Permission denied")
    ]


def test_a_root_that_can_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, root)
    with pytest.raises(SourceError, match=r"can't read .*docs: Permission denied"):
        discover([root])


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real_scandir = os.scandir

    def scandir(path: str | Path) -> object:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    monkeypatch.setattr(module.os, "scandir", scandir)
