"""Kill a build and a service while both write to one index; ``benchmarks.torture`` runs this.

    python -m benchmarks.torture.together FOLDER KILLS SEED

The folder holds documents and a model. Each round forks a build or a compaction and a service that
puts and deletes documents of a root of its own, and kills both with SIGKILL at random moments. The
service logs each commit before it begins and when it is acknowledged. After each round the index
must verify, and hold every acknowledged document with its text, none that was deleted, and the
commit that was under way as a whole or not at all.

This process forks and never uses the model itself, because a fork of a process with threads may
hang.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TextIO

from benchmarks.torture.place import Lost, Place
from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from indexer.staging import Prepared, Put, Stager, prepare
from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    RootInfo,
    Section,
    SourceFile,
)
from retrieval.encoding.encoder import Encoder
from retrieval.errors import RetrievalError
from retrieval.store import Commit, open_reader, open_writer, read_info, verify
from retrieval.store.disk.lexical import lexical_merge
from retrieval.store.disk.writing import maintenance

ROOT = "notes"
URIS, TEXTS = 60, 200
"""Numbers of URIs and texts of pushed documents: few, so that documents are replaced, and vectors
are found, dropped and made again."""
REFUSED = 3
"""Exit code of a child that ended with one of the project's own errors."""


class Child:
    """Forked process that runs one function."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                run()
                code = 0
            except RetrievalError as error:
                print(f"refused: {error.message}", file=sys.stderr)
                code = REFUSED
            finally:
                if code == 1:
                    traceback.print_exc()
                os._exit(code)

    def end(self, *, kill: bool) -> bool:
        """Wait until the process has ended; return whether it was killed.

        Raises:
            Lost: it ended with an error.
        """
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code not in (0, -signal.SIGKILL, REFUSED):
            raise Lost(f"exit {code}")
        return code < 0


class Service:
    """Puts and deletes documents until its process is killed."""

    def __init__(self, place: Place, index: Path, log: Path, seed: int) -> None:
        self._place = place
        self._index = index
        self._log = log
        self._chance = random.Random(seed)

    def run(self) -> None:
        """Commit on and on, and maintain the index now and then."""
        encoder = Encoder.load(str(self._place.folder / "model"), device="cpu")
        with open_writer(self._index, shared=True) as writer, self._log.open("a") as log:
            writer.set_model(encoder.identity, ChunkSettings(24, 3), "en")
            stager = Stager(writer, lambda texts: encoder.embed(texts, "passage"))
            while True:
                self._commit(stager, log)
                if self._chance.random() < 0.2:
                    writer.maintain()

    def _commit(self, stager: Stager, log: TextIO) -> None:
        put = {self._uri(): self._text() for _ in range(3)}
        gone = self._uri()
        put.pop(gone, None)
        documents = [_prepared(uri, text) for uri, text in put.items()]

        def write(commit: Commit, put_one: Put) -> None:
            commit.claim_root(RootInfo(ROOT))
            for one in documents:
                put_one(one)
            commit.remove_document(gone)

        log.write(json.dumps({"put": put, "gone": gone}) + "\n")
        log.flush()
        stager.commit(documents, write)
        log.write("done\n")
        log.flush()

    def _uri(self) -> str:
        return f"{ROOT}/{self._chance.randrange(URIS)}"

    def _text(self) -> str:
        return f"pushed text {self._chance.randrange(TEXTS)} of a segment"


def _prepared(uri: str, text: str) -> Prepared:
    document = Document(uri, uri, "text", text, (Section(0, ()),))
    source = SourceFile(Path("/x"), uri, ROOT, len(text), 1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return prepare(
        document, source, digest, [Chunk(0, 0, len(text), text, 1, 1, (), 6)], context=False
    )


class Acknowledged:
    """The documents that the service has put, as its log tells."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.commits = 0
        self._documents: dict[str, str] = {}

    def read(self) -> list[dict[str, str]]:
        """Take the log in; return what the index may hold."""
        under_way = ""
        for line in self._log.read_text().splitlines() if self._log.exists() else ():
            if line == "done":
                self._documents = _changed(self._documents, under_way)
                self.commits, under_way = self.commits + 1, ""
            else:
                under_way = line
        self._log.unlink(missing_ok=True)
        allowed = [self._documents]
        if under_way:
            with suppress(json.JSONDecodeError):  # killed while it was logged
                allowed.append(_changed(self._documents, under_way))
        return allowed

    def settle(self, index: Path, allowed: list[dict[str, str]]) -> None:
        """Note which of the allowed states the index holds.

        Raises:
            Lost: it holds another one.
        """
        found = _pushed(index)
        if found not in allowed:
            raise Lost(f"other documents: {sorted(found.items() ^ allowed[0].items())}")
        self._documents = found


def _changed(documents: dict[str, str], change: str) -> dict[str, str]:
    made = json.loads(change)
    return {uri: text for uri, text in {**documents, **made["put"]}.items() if uri != made["gone"]}


def _pushed(index: Path) -> dict[str, str]:
    """Return the texts of the pushed documents by URI."""
    with open_reader(index) as reader:
        rows = [row for row in reader.documents(100_000) if row.uri.startswith(f"{ROOT}/")]
        return {row.uri: reader.document_text(row.id) for row in rows}


def _check(index: Path, allowed: list[dict[str, str]]) -> None:
    if problems := list(verify(index)):
        raise Lost(str(problems))
    if _pushed(index) not in allowed:
        raise Lost("other documents")


def _build(place: Place, index: Path) -> None:
    model = str(place.folder / "model")
    while True:  # until it is killed, so that it always has something to commit
        build(BuildOptions([place.docs], index, model, chunk_tokens=24), SilentProgress())
        place.change()


def _compact(index: Path) -> None:
    while True:
        with open_writer(index) as writer:
            writer.compact()


def run(place: Place, kills: int) -> None:
    """Run rounds until that many processes were killed."""
    index, log = place.folder / "together", place.folder / "log"
    acknowledged, killed = Acknowledged(log), Counter[str]()
    generation = 0
    while killed.total() < kills:
        seed = place.chance.randrange(10**9)
        tasks: dict[str, Callable[[], None]] = {"service": Service(place, index, log, seed).run}
        if index.exists() and place.chance.random() < 0.2:
            tasks["compact"] = lambda: _compact(index)
        else:
            tasks["build"] = lambda: _build(place, index)
        place.chance = random.Random(seed)
        children = {name: Child(task) for name, task in tasks.items()}
        before = time.monotonic()
        while not log.exists() and time.monotonic() < before + 60:  # until the service has started
            time.sleep(0.01)
        for name in place.chance.sample(sorted(children), 2):
            time.sleep(place.chance.uniform(0.0, 2.0))
            killed[name] += children[name].end(kill=True)
        allowed = acknowledged.read()
        checked = Child(partial(_check, index, allowed))
        if checked.end(kill=False):
            raise Lost("the check was killed")
        acknowledged.settle(index, allowed)
        if read_info(index).generation < generation:
            raise Lost("a generation is lost")
        generation = read_info(index).generation
    print(
        f"{killed.total()} kills of processes that wrote at once "
        f"({', '.join(f'{count} {name}' for name, count in sorted(killed.items()))}), "
        f"{acknowledged.commits} commits acknowledged, {generation} generations: "
        f"0 lost, 0 by halves, 0 damaged",
        flush=True,
    )


def main() -> None:
    """Run rounds in a folder that was given."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # Small enough that merging, indexing and compaction happen all the time.
    maintenance.MAX_SMALL_SEGMENTS = 3
    maintenance.MIN_ANN_ROWS = maintenance.EXACT_ROWS = 100
    lexical_merge.MAX_SMALL_SEGMENTS = 9  # type: ignore[misc]
    run(Place.opened(folder, random.Random(seed)), kills)
    shutil.rmtree(folder / "together")


if __name__ == "__main__":
    main()
