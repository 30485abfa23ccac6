"""Locations, and the stores that they name."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from indexer.commands.maintain import status
from retrieval.errors import InvalidArgument, NotAnIndex
from retrieval.service.config import parse_indexes
from retrieval.store import (
    Location,
    Reader,
    exists,
    open_reader,
    open_writer,
    read_info,
    read_status,
    read_version,
    remove_documents,
    verify,
)
from retrieval.store.api import opening
from retrieval.store.disk.reading.reader import DiskReader
from retrieval.store.disk.store import DiskStore
from tests.store.test_store import fill


@pytest.mark.parametrize(
    ("text", "scheme", "path"),
    [
        ("./index", "", "./index"),
        ("/a/b", "", "/a/b"),
        ("lake://bucket/index", "lake", "bucket/index"),
        ("a+b.c-1://", "a+b.c-1", ""),
        ("C://x", "", "C://x"),
        ("./lake://x", "", "./lake://x"),
        ("lake:/x", "", "lake:/x"),
    ],
)
def test_a_text_is_a_folder_or_an_address(text: str, scheme: str, path: str) -> None:
    assert Location.parse(text) == Location(scheme, path)


def test_a_path_is_always_a_folder() -> None:
    assert Location.parse(Path("lake://x")).scheme == ""
    assert Location.parse(Path("a") / "b") == Location.parse("a/b")


def test_a_location_may_be_on_a_disk_of_this_machine() -> None:
    assert Location.parse("a").on_disk == Location.parse("lance://a").on_disk == Path("a")
    assert Location.parse("s3://bucket/a").on_disk is None
    assert Location.parse("lance://a").absolute() == Location("lance", str(Path("a").resolve()))
    assert Location.parse("s3://bucket/a").absolute() == Location("s3", "bucket/a")


def test_without_lance_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("retrieval.store.lake")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lance", None)  # as if it were not installed
    for use in (exists, read_info, open_reader, open_writer):
        with pytest.raises(InvalidArgument, match=r"^an index at lance://… .* needs .*\[lake\]$"):
            use("lance://x")


@given(st.text())
def test_a_location_is_shown_so_that_it_can_be_typed_again(text: str) -> None:
    location = Location.parse(text)
    again = Location.parse(str(location))
    assert again.scheme == location.scheme
    assert str(again) == str(location)
    assert Location.parse(location) is location


@pytest.mark.parametrize(
    "use",
    [
        exists,
        read_info,
        read_status,
        read_version,
        open_reader,
        open_writer,
        verify,
        lambda location: remove_documents(location, ["a"]),
    ],
)
def test_an_unknown_scheme_is_refused(use: object) -> None:
    assert callable(use)
    with pytest.raises(InvalidArgument, match=r"^ftp://host/x: .* no store for ftp://") as caught:
        use("ftp://host/x")
    assert caught.value.metadata["field"] == "index"


@pytest.mark.parametrize("use", [exists, read_info, open_reader, open_writer])
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lance://", "names no place"),
        ("s3://", "names no place"),
        ("LANCE://x", "write lance://x,"),
        ("lance:/x", "write lance://x,"),
        ("s3:/bucket/x", "write s3://bucket/x,"),
    ],
)
def test_a_misspelt_address_is_not_taken_for_a_folder(
    text: str, meant: str, use: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert callable(use)
    with pytest.raises(InvalidArgument, match=meant) as caught:
        use(text)
    assert caught.value.metadata["field"] == "index"
    assert not list(tmp_path.iterdir())
    assert not exists(tmp_path / text)  # the whole path of such a folder


def test_the_error_for_the_wrong_store_says_what_the_folder_holds(tmp_path: Path) -> None:
    folder, lake = tmp_path / "folder", tmp_path / "lake"
    fill(folder, 1)
    fill(Location("lance", str(lake)), 1)
    for use in (open_reader, open_writer, read_status):
        with pytest.raises(NotAnIndex, match=f"another kind: give --index {folder}"):
            use(f"lance://{folder}")
        with pytest.raises(NotAnIndex, match=f"another kind: give --index lance://{lake}"):
            use(lake)


def test_a_scheme_names_its_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second store is one entry of a table; search and build need no other change."""

    class Elsewhere(DiskStore):
        """Folders under another one, by address."""

        def open_reader(self, location: Location, before: Reader | None = None) -> DiskReader:
            return super().open_reader(Location("", str(tmp_path / location.path)), before)

    monkeypatch.setattr(opening, "_STORES", {**opening._STORES, "elsewhere": Elsewhere})
    fill(tmp_path / "index", 2)
    with open_reader("elsewhere://index") as reader, open_reader(tmp_path / "index") as same:
        assert reader.info == same.info
    with pytest.raises(InvalidArgument, match="elsewhere://"):
        exists("ftp://host")


def test_the_command_line_takes_addresses() -> None:
    result = CliRunner().invoke(status, ["--index", "ftp://host/x"])
    assert isinstance(result.exception, InvalidArgument)
    assert result.exception.message.startswith("ftp://host/x: ")
    assert parse_indexes(["a=s3://bucket/x"])["a"] == Location("s3", "bucket/x")


def test_no_index_is_made_where_one_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotAnIndex):
        open_writer(tmp_path / "index", create=False)
    assert not (tmp_path / "index").exists()


def test_importing_the_package_loads_no_engine() -> None:
    code = (
        "import sys; before = set(sys.modules); "  # coverage, if it is measured, loads SQLite
        "import retrieval.store, retrieval.search; from retrieval.store.lexical.query import "
        "parse_lexical_query; parse_lexical_query('a b*'); retrieval.store.Location.parse('./x');"
        "print({'tantivy', 'faiss', 'sqlite3', 'torch', 'grpc'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
