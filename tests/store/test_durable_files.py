"""Files that are replaced in one step, and a disk that refuses."""

import errno
import os
from pathlib import Path

import pytest

from retrieval.errors import DiskFull, StorageError
from retrieval.store import durable_files
from retrieval.store.disk.files.vector_file import write_file
from retrieval.store.durable_files import OWNER_ONLY, replacing, storage_error
from retrieval.store.replicas.publish import publish
from retrieval.store.replicas.pull import pull
from tests.store.test_store import fill


def refuse(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk refuse to keep anything."""

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable_files.os, "fsync", fail)


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path, fresh = tmp_path / "file", tmp_path / "file.new"
    fresh.write_bytes(b"left by a run that was killed")
    for content in (b"first", b"second"):
        with replacing(path, fresh, mode=OWNER_ONLY) as file:
            file.write(content)
            assert path.exists() is (content == b"second")
        assert path.read_bytes() == content
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_file_stays_if_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    refuse(number, monkeypatch)
    with pytest.raises(OSError), replacing(path, tmp_path / "new") as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_stays_if_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError), replacing(path, tmp_path / "new") as file:
        file.write(b"new")
        raise ValueError
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_an_owners_file_is_read_by_nobody_else(tmp_path: Path) -> None:
    with replacing(tmp_path / "file", tmp_path / "new", mode=OWNER_ONLY) as file:
        file.write(b"secret")
    assert (tmp_path / "file").stat().st_mode & 0o777 == OWNER_ONLY


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, StorageError)],
)
def test_a_full_disk_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    assert type(storage_error("full", OSError(number, ""))) is kind
    refuse(number, monkeypatch)
    with pytest.raises(StorageError, match="can't write") as raised:
        write_file(tmp_path, "vectors-", [b"block"])
    assert type(raised.value) is kind
    assert not [*tmp_path.iterdir()]


def test_a_pull_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "index", 2)
    url = (tmp_path / "bucket").as_uri()
    publish(tmp_path / "index", url)
    refuse(errno.ENOSPC, monkeypatch)
    with pytest.raises(DiskFull, match="No space left"):
        pull(url, tmp_path / "copy")
