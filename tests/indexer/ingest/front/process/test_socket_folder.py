"""Folders of sockets: none stays, and none is taken from a server that lives."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.ingest.front.process.socket_folder import SocketFolder, remove_leftovers

SERVER = """
import signal, sys, tempfile
from indexer.ingest.front.process.socket_folder import SocketFolder
tempfile.tempdir = sys.argv[1]
folder = SocketFolder.make()
folder.socket.touch()
print(folder.socket.parent, flush=True)
signal.pause()
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a path that is short enough."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_folders_of_killed_servers_are_removed_and_no_others(temporary: Path) -> None:
    for name in ("retrieval-writer-new", "retrieval-other"):  # without a lock: perhaps not yet
        (temporary / name).mkdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "server.lock").touch()
    (temporary / "retrieval-writer-link").symlink_to(elsewhere)
    (temporary / "retrieval-writer-file").touch()
    others = set(temporary.iterdir())
    command = [sys.executable, "-c", SERVER, str(temporary)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        folder = Path(server.stdout.readline().strip())
        remove_leftovers()
        assert set(temporary.iterdir()) == {*others, folder}
        server.send_signal(signal.SIGKILL)
    remove_leftovers()
    assert set(temporary.iterdir()) == others
    assert (elsewhere / "server.lock").exists()


def test_a_folder_is_private_and_removed(temporary: Path) -> None:
    folder = SocketFolder.make()
    path = folder.socket.parent
    assert path.stat().st_mode & 0o777 == 0o700
    remove_leftovers()
    assert path.exists()
    folder.remove()
    assert not path.exists()


def test_a_path_is_short_enough_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 99)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = SocketFolder.make()
    assert folder.socket.parent.parent == Path("/tmp")
    assert len(os.fsencode(folder.socket)) < 100
    folder.remove()
    assert not any(deep.iterdir())
