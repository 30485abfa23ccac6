"""Opening a generation after another costs what changed; what both have is open once."""

import gc
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import IndexDamaged
from retrieval.store import IndexType, open_reader, open_writer, remove_documents
from tests.service.harness import build_index, write_documents
from tests.store.disk.vectors.test_approximate import add, clustered, make

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROWS = 6_000


def mapped(folder: Path) -> list[str]:
    """The files of a folder that this process has mapped, a name for each mapping of a file."""
    lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    starts = re.compile(rf"\S+ \S+ 0+ \S+ \S+ +{re.escape(str(folder))}/(\S+)")
    return sorted(match[1] for match in map(starts.match, lines) if match)


def bytes_read() -> int:
    """How many bytes this process has read so far by system calls, from files in the cache too."""
    return int(re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text())[0])


def anonymous_bytes() -> int:
    found = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[0]) << 10


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the collector of cycles: what isn't held must go by itself, and at once."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def change_metadata(folder: Path) -> None:
    with open_writer(folder) as writer, writer.commit() as commit:
        commit.set_index_type("auto", 0.9)


def remove_a_document(folder: Path) -> None:
    assert remove_documents(folder, ["docs/a/7.txt"]) == (["docs/a/7.txt"], [])


def add_documents(folder: Path) -> None:
    with open_writer(folder) as writer:
        add(writer, clustered(40, 9), "new")


CHANGES = [change_metadata, remove_a_document, add_documents]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[IndexType], Path]:
    """Indexes of ``ROWS`` rows, made once for each type; tests change copies of them."""

    @cache
    def made(kind: IndexType) -> Path:
        folder = tmp_path_factory.mktemp("index") / kind
        make(folder, kind, ROWS, 0.5)
        return folder

    return made


@pytest.fixture(scope="module", params=["flat", "ivf", "hnsw"])
def index(request: pytest.FixtureRequest, made: Callable[[IndexType], Path]) -> Path:
    return made(request.param)


def large_files(folder: Path) -> dict[str, int]:
    files = [path for path in folder.iterdir() if path.name.startswith(("vectors-", "ann-"))]
    return {path.name: path.stat().st_size for path in files}


@pytest.mark.parametrize("change", CHANGES)
def test_files_of_both_generations_are_read_once(
    tmp_path: Path, index: Path, change: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(index, tmp_path / "index", symlinks=True))
    files = large_files(folder)
    assert min(files.values()) > 100_000
    queries = clustered(20, 3)
    with no_collector():
        first = open_reader(folder)
        before = first.search_vectors(queries, 10)
        assert sorted(set(mapped(folder)) & set(files)) == mapped_once(files)
        change(folder)
        read = bytes_read()
        second = open_reader(folder, before=first)
        read = bytes_read() - read
        assert second.info.generation == first.info.generation + 1
        new = large_files(folder)
        assert [name for name in mapped(folder) if name in new] == mapped_once(new)
        read_alone = bytes_read()
        with open_reader(folder) as alone:
            # Small files are checked whole; approximate indexes are then read once more.
            twice = [size for name, size in files.items() if name.startswith("ann-")]
            assert bytes_read() - read_alone - read > 0.98 * (sum(files.values()) + sum(twice))
            for exact in (False, True):
                theirs = alone.search_vectors(queries, 10, exact=exact)
                ours = second.search_vectors(queries, 10, exact=exact)
                np.testing.assert_array_equal(ours.vector_ids, theirs.vector_ids)
                np.testing.assert_array_equal(ours.scores, theirs.scores)
            del alone
        # The first goes on as it was, and then lets go of its own alone.
        again = first.search_vectors(queries, 10)
        np.testing.assert_array_equal(again.vector_ids, before.vector_ids)
        first.close()
        del first
        assert second.search_vectors(queries, 10).vector_ids.shape == (20, 10)
        assert [name for name in mapped(folder) if name in new] == mapped_once(new)
        second.close()
        del second
        assert not mapped(folder)


def mapped_once(files: dict[str, int]) -> list[str]:
    return sorted(name for name in files if name.startswith("vectors-"))


def test_an_approximate_index_is_in_memory_once(
    tmp_path: Path, made: Callable[[IndexType], Path]
) -> None:
    """In a process of its own, which has no freed memory to use."""
    folder = Path(shutil.copytree(made("hnsw"), tmp_path / "index", symlinks=True))
    (size,) = [size for name, size in large_files(folder).items() if name.startswith("ann-")]
    code = """
        import sys
        from pathlib import Path
        from tests.store.disk.reading.test_sharing import (
            anonymous_bytes, change_metadata, open_reader)
        folder = Path(sys.argv[1])
        start, first = anonymous_bytes(), open_reader(folder)
        change_metadata(folder)
        once, second = anonymous_bytes(), open_reader(folder, before=first)
        print(once - start, anonymous_bytes() - once)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > size
    assert second < size / 2, "connections, and no second approximate index"


def test_memory_does_not_grow_with_reloads(
    tmp_path: Path, made: Callable[[IndexType], Path]
) -> None:
    folder = Path(shutil.copytree(made("hnsw"), tmp_path / "index", symlinks=True))
    (size,) = [size for name, size in large_files(folder).items() if name.startswith("ann-")]
    code = """
        import gc, sys
        from pathlib import Path
        from tests.store.disk.reading.test_sharing import *
        folder = Path(sys.argv[1])
        gc.disable()
        reader, queries = open_reader(folder), clustered(20, 3)
        for number in range(25):
            if number == 5:
                start = anonymous_bytes()
            change_metadata(folder)
            old, reader = reader, open_reader(folder, before=reader)
            old.close()
            reader.search_vectors(queries, 10)
        print(anonymous_bytes() - start)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < size / 2


def test_a_merged_index_shares_nothing_and_is_right(tmp_path: Path, index: Path) -> None:
    folder = Path(shutil.copytree(index, tmp_path / "index", symlinks=True))
    add_documents(folder)
    first = open_reader(folder)
    with open_writer(folder) as writer:
        writer.compact()
    queries = clustered(5, 3)
    with open_reader(folder, before=first) as second, open_reader(folder) as alone:
        ours, theirs = (one.search_vectors(queries, 10, exact=True) for one in (second, alone))
        np.testing.assert_array_equal(ours.vector_ids, theirs.vector_ids)
    first.close()


def overwrite(path: Path, copy: Path) -> None:
    """Write other bytes into the same file, and make its size and time what they were."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        file.write(bytes(4096))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange(path: Path, copy: Path) -> None:
    """Put another file of the same name, size and time there."""
    shutil.copy2(path, copy)
    overwrite(copy, path)
    copy.replace(path)


def cut(path: Path, copy: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def remove(path: Path, copy: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [overwrite, exchange, cut, remove])
@pytest.mark.parametrize("kind", ["vectors-", "ann-"])
def test_a_file_that_is_not_the_same_any_more_is_checked_anew(
    tmp_path: Path, index: Path, damage: Callable[[Path, Path], None], kind: str
) -> None:
    folder = Path(shutil.copytree(index, tmp_path / "index", symlinks=True))
    names = [name for name in large_files(folder) if name.startswith(kind)]
    if not names:
        pytest.skip("a flat index has no such file")
    with open_reader(folder) as first:
        change_metadata(folder)
        damage(folder / names[0], tmp_path / "copy")
        with pytest.raises(IndexDamaged, match=names[0]):
            open_reader(folder, before=first)


def test_another_index_in_the_same_place_shares_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    make(folder, "ivf", 4000)
    first = open_reader(folder)
    shutil.rmtree(folder)
    make(tmp_path / "other", "ivf", 4100)
    (tmp_path / "other").rename(folder)
    with open_reader(folder, before=first) as second:
        assert second.search_vectors(clustered(4100, 1)[-1:], 1).vector_ids.tolist() == [[4100]]
    first.close()


def test_a_copy_in_the_same_place_is_opened_anew(tmp_path: Path) -> None:
    """The files of the old one may lie on a disk that is about to go."""
    folder = tmp_path / "index"
    make(folder, "flat", 4000)
    first = open_reader(folder)
    shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    folder.rename(tmp_path / "old")
    (tmp_path / "copy").rename(folder)
    with open_reader(folder, before=first):
        assert [name[:8] for name in mapped(folder)].count("vectors-") == 1
        assert [name[:8] for name in mapped(tmp_path / "old")].count("vectors-") == 1
    first.close()


def test_words_that_did_not_change_are_opened_once(tmp_path: Path) -> None:
    documents, folder = tmp_path / "documents", tmp_path / "index"
    write_documents(documents)
    build_index(documents, folder)
    with no_collector():
        first = open_reader(folder)
        change_metadata(folder)
        was = mapped(folder)
        assert any("lexical" in name for name in was)
        second = open_reader(folder, before=first)
        assert mapped(folder) == was
        first.close()
        del first
        assert second.search_lexical("harbour", 5).scores.size
        second.close()
        del second


def test_files_of_words_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents, folder = tmp_path / "documents", tmp_path / "index"
    write_documents(documents)
    build_index(documents, folder)
    with open_reader(folder) as first:
        known = {str(folder / row[0]) for row in first._rows("SELECT file FROM lexical_files", [])}
        (documents / "new.md").write_text("# New\n\nA zeppelin over the harbour.\n")
        build_index(documents, folder)
        opened: list[str] = []

        def note(event: str, arguments: tuple[object, ...]) -> None:
            if noting and event == "open":
                opened.append(str(arguments[0]))

        noting = True
        sys.addaudithook(note)
        second = open_reader(folder, before=first)
        noting = False
    with second:
        old = {name for name in opened if "lexical-" in name and not name.endswith("meta.json")}
        assert old
        assert not old & known
        assert second.search_lexical("zeppelin", 5).scores.size
        assert second.search_lexical("harbour", 50).scores.size == 6
