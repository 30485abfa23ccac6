"""Writers in processes of their own that are killed at random moments, or race each other.

Tests run some of it; ``benchmarks.torture.lake`` runs more.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from retrieval.store import Location, open_reader, verify

ROOT = Path(__file__).resolve().parents[4]

WRITE = """
import sys
from retrieval.store import Location
from retrieval.store.lake.writing import maintenance
from tests.store.test_store import key, new_writer, staged, unit_vectors
place, first = sys.argv[1], int(sys.argv[2])
maintenance.MANY_FILES, maintenance.TOO_MANY_FILES = 3, 6
with new_writer(Location.parse(place)) as writer:
    for number in range(first, first + 1000):
        with writer.commit() as commit:
            texts = [f"text {at} of {number}" for at in range(4)]
            ids = commit.add_vectors([key(t) for t in texts], unit_vectors(4, number), [False] * 4)
            commit.put_document(staged(f"d/{number}", texts, ids))
            # Each commit replaces a document, too, so rows are deleted from every table.
            again = [f"again {number}"]
            ids = commit.add_vectors([key(again[0])], unit_vectors(1, number), [False])
            commit.put_document(staged("d/always", again, ids))
        print(number, flush=True)
        if number % 3 == 0:
            writer.maintain()
        if number % 20 == 0:
            writer.compact()
"""

RACE = """
import sys
from contextlib import nullcontext
from retrieval.errors import IndexLocked
from retrieval.store import Location, open_writer
from retrieval.store.lake.writing import maintenance, writer as writing
from tests.store.test_store import key, staged, unit_vectors
place, name, commits, turns = sys.argv[1:]
maintenance.MANY_FILES, maintenance.TOO_MANY_FILES = 4, 10
if turns == "without":  # the tables and the pointer alone must decide
    writing.LakeWriter.turn = lambda self: nullcontext()
with open_writer(Location.parse(place), shared=True) as writer:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(commits)):
        while True:
            try:
                with writer.commit() as commit:
                    text = f"text {number} of {name}"
                    ids = commit.add_vectors([key(text)], unit_vectors(1, number), [False])
                    commit.put_document(staged(f"d/{name}-{number}", [text], ids))
                    again = commit.find_vectors([key(text)])
                    commit.put_document(staged("d/always", [text], list(again.values())))
            except IndexLocked as error:
                assert turns == "without" or "is being written" in error.message, error
                continue
            print(commit.generation, name, flush=True)
            break
"""


def kill_commits(index: Location, kills: int, chance: random.Random) -> int:
    """Kill a writer again and again; after each kill, check that nothing is lost or torn.

    Returns:
        the number of commits.
    """
    committed, first = 0, 1
    for _ in range(kills):
        arguments = [sys.executable, "-c", WRITE, str(index), str(first)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for _ in range(1 + chance.randrange(2)):
                committed = int(process.stdout.readline())
            time.sleep(chance.random() * 0.3)
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout:
                committed = int(line) if line.endswith("\n") else committed
        with open_reader(index) as reader:
            uris = {document.uri for document in reader.documents(100_000)}
            # The last commit may have been published just before its number was printed.
            newest = max(int(uri.removeprefix("d/")) for uri in uris - {"d/always"})
            assert newest - committed in (0, 1)
            assert uris == {f"d/{number}" for number in range(1, newest + 1)} | {"d/always"}
            assert reader.info.chunks == 4 * newest + 1
            assert reader.info.vectors - reader.info.unused_vectors == 4 * newest + 1
            always = reader.document_by_uri("d/always")
            assert reader.document_text(always.id) == f"again {newest}"
            assert len(reader.search_lexical("text", 100_000).scores) == 4 * newest
        first = newest + 1
    assert list(verify(index)) == []
    return first - 1


def race(index: Location, commits: int, turns: str, names: str = "pqrs") -> None:
    """Let writers commit to an index with one document at once; check that each commit is whole.

    Args:
        index: the index, which has one commit of one document.
        commits: number of commits of each writer.
        turns: ``with`` or ``without`` those of ``retrieval.store.lake.writing.turns`` or locks.
        names: of the writers.
    """
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(index), name, str(commits), turns],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in names
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate()[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * len(names)
    generations = [int(number) for words in said for number in words[::2]]
    whole = len(names) * commits
    assert len(set(generations)) == len(generations) == whole  # one winner of each
    with open_reader(index) as reader:
        assert reader.info.generation >= whole + 1  # files may have been joined, too
        uris = {one.uri for one in reader.documents(100_000)}
        assert uris == {f"d/{name}-{number}" for name in names for number in range(commits)} | {
            *("d/a.txt", "d/always")
        }
        # The last text of d/always is another document's, too, under another title.
        assert len(reader.search_lexical("text", 100_000).scores) == whole + 2
    assert list(verify(index)) == []
