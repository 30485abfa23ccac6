"""What programs generate is skipped and counted, and unknown files are read if they are text."""

import gzip
import os
from pathlib import Path

import pytest

from indexer.files.discover import Discovery, discover
from indexer.files.generated import generated_file
from indexer.files.sniff import without_binaries
from indexer.parse.base.unknown import NOT_TEXT, SNIFFED_BYTES, looks_readable, may_be_text
from indexer.parse.formats import DOCUMENT_EXTENSIONS
from retrieval.domain.records import ReadSettings
from tests.indexer import make_files
from tests.indexer.files.test_discover import reasons, uris, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


def details(found: Discovery) -> dict[str, str]:
    return {skip.uri.partition("/")[2]: skip.detail for skip in found.skipped}


def sniffed(*roots: Path) -> Discovery:
    return without_binaries(discover(roots), lambda _: False)


def test_folders_that_programs_write(root: Path) -> None:
    write(root / "README.md")
    for folder in ("node_modules", "src/__pycache__", "env", "cache", "rust/target", "js/dist"):
        write(root / folder / "a.md")
    for folder in ("py/build", "net/obj", "site", "vendor", "my.egg-info"):
        write(root / folder / "a.md")
    for marker in ("env/pyvenv.cfg", "cache/CACHEDIR.TAG", "rust/Cargo.toml", "js/package.json"):
        write(root / marker)
    for marker in ("py/setup.py", "net/app.csproj", "mkdocs.yml", "go.mod"):
        write(root / marker)
    found = discover([root])
    assert details(found) == {
        "node_modules": "packages of npm",
        "src/__pycache__": "compiled by Python",
        "env": "a virtual environment",
        "cache": "a cache",
        "rust/target": "made by the project of Cargo.toml",
        "js/dist": "made by the project of package.json",
        "py/build": "made by the project of setup.py",
        "net/obj": "made by the project of app.csproj",
        "site": "made by the project of mkdocs.yml",
        "vendor": "made by the project of go.mod",
        "my.egg-info": "written by setuptools",
    }
    assert set(reasons(found).values()) == {"generated"}
    everything = discover([root], generated=True)
    assert reasons(everything) == {}
    assert everything.choice.generated


@pytest.mark.parametrize("name", ["build", "dist", "target", "out", "bin", "site", "vendor", "env"])
def test_folders_of_such_a_name_that_are_not_plainly_generated(root: Path, name: str) -> None:
    write(root / name / "a.md")
    assert uris(discover([root])) == [f"docs/{name}/a.md"]
    assert reasons(discover([root])) == {}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("package-lock.json", "a lock file"),
        ("Cargo.lock", "a lock file"),
        ("go.sum", "a lock file"),
        ("jquery.min.js", "minified"),
        ("app-min.css", "minified"),
        ("main.chunk.js", "minified"),
        ("app.js.map", "a source map"),
        ("styles.css.map", "a source map"),
        ("lock.md", ""),
        ("min.js", ""),
        ("world.map", ""),
        ("package.json", ""),
    ],
)
def test_generated_files(root: Path, name: str, what: str) -> None:
    assert generated_file(name) == what
    write(root / name)
    expected = {f"docs/{name}": "generated"} if what else {}
    assert reasons(discover([root])) == expected
    assert uris(discover([root / name])) == [name], "a file that the user names is read"
    assert uris(discover([root], listed=[name])) == [f"docs/{name}"]


def test_the_folder_of_the_index_is_passed_over(root: Path) -> None:
    write(root / "a.md")
    write(root / "index" / "index.db")
    write(root / "index" / "notes.md")
    found = discover([root], index=root / "index")
    assert (uris(found), found.skipped) == (["docs/a.md"], ())
    (root.parent / "elsewhere").symlink_to(root / "index")
    assert discover([root], index=root.parent / "elsewhere").skipped == ()
    assert "docs/index/notes.md" in uris(discover([root]))


TEXTS = {
    "notes": b"text",
    "a.foo": "Zoë".encode(),
    "b.dat": "Привет, как дела? Всё хорошо.".encode("cp1251"),
    "c.unknown": "Grüße".encode("utf-16"),
    "d.2024": b"",
    "e.x.gz": gzip.compress(b"text"),
    "f.long": b"a" * 200_000 + "é".encode(),
}
BINARIES = {
    "program": b"\x7fELF\2\1\1" + bytes(200),
    "g.foo": os.urandom(5_000),
    "h.blob": b"PK\3\4" + bytes(range(256)) * 9,
    "i.x.gz": gzip.compress(os.urandom(5_000)),
    "j.x.gz": b"no gzip",
    "k.late": b"a header\n" + os.urandom(9_000),
}
BY_NAME = {
    "l.mp4": b"text", "m.WOFF2": b"text", "libz.so.1": b"text", "n.md~": b"text",
    "o.pem": b"text", "p.exe.gz": b"text", "q.zip.gz": b"text",
}  # fmt: skip


def test_unknown_files_are_read_if_they_look_like_text(root: Path) -> None:
    for name, data in {**TEXTS, **BINARIES, **BY_NAME}.items():
        (root / name).write_bytes(data)
    found = sniffed(root)
    assert set(uris(found)) == {f"docs/{name}" for name, data in TEXTS.items() if data}
    why = reasons(found)
    assert why.pop("docs/d.2024") == "empty"
    assert set(why) == {f"docs/{name}" for name in (*BINARIES, *BY_NAME)}
    assert set(why.values()) == {"unsupported format"}
    assert details(found)["program"] == "no extension"
    assert details(found)["g.foo"] == ".foo"
    assert [skip.uri for skip in found.skipped] == sorted(skip.uri for skip in found.skipped)


def test_documents_without_an_extension_are_read(root: Path) -> None:
    made = {"report": make_files.make_pdf(), "letter.2024": make_files.make_docx()}
    for name, data in made.items():
        (root / name).write_bytes(data)
    assert set(uris(sniffed(root))) == {f"docs/{name}" for name in made}


def test_files_are_opened_only_to_tell_what_they_are(root: Path) -> None:
    (root / "a.foo").write_bytes(b"text")
    (root / "b.foo").write_bytes(BINARIES["g.foo"])
    found = discover([root])
    assert found.unsure == {"docs/a.foo", "docs/b.foo"}
    assert without_binaries(found, lambda _: True).files == found.files
    again = without_binaries(without_binaries(found, lambda _: False), lambda _: False)
    assert uris(again) == ["docs/a.foo"]
    (root / "a.foo").unlink()
    assert "docs/a.foo" in uris(without_binaries(found, lambda _: False)), "its reader says why"


def test_large_binaries_are_read_in_part(root: Path) -> None:
    with (root / "huge.foo").open("wb") as file:
        file.truncate(90 << 20)
    with (root / "larger.foo").open("wb") as file:
        file.truncate(1 << 40)
    assert details(sniffed(root)) == {
        "huge.foo": ".foo",
        "larger.foo": ".foo, and too large for text",
    }
    assert looks_readable("a.foo", b"a" * SNIFFED_BYTES)


def test_the_lists_do_not_contradict_each_other() -> None:
    assert all(end.startswith(".") and end == end.lower() for end in NOT_TEXT)
    assert may_be_text("a")
    assert may_be_text(".")
    assert not {".md", ".txt", ".py", ".xml"} & NOT_TEXT
    assert ".md" in DOCUMENT_EXTENSIONS


def test_extensions_are_read_as_the_user_says(root: Path) -> None:
    for name in ("a.foo", "b.zip", "c.d.ts", "e.exe", "README.pdf"):
        write(root / name)
    reading = ReadSettings(
        read_as=((".d.ts", "text"), (".exe", "text"), (".foo", "markdown"), (".zip", "text"))
    )
    found = discover([root], reading=reading)
    assert len(found.files) == 5
    assert found.unsure == frozenset()
