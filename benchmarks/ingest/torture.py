"""Kill the server and its writer process while clients put and delete: is anything ever lost?

    python -m benchmarks.ingest.torture [--kills 100] [--clients 4] [--seed N]

Clients put, replace and delete documents of a few hundred URIs, over unary calls and over streams,
and try again after every failure that passes. Each client owns its URIs, so it knows what every one
must hold: what was acknowledged last, or what a call that failed may have written. At random
moments the server, its writer process or a reader is killed with SIGKILL, or the writer process is
stopped for good, which the server has to notice. A killed server is started again on the same
folder. After every restart, and at the end, every document is read and compared, no
document may be there twice or come back after its deletion, a search must find the words of some,
and at the end the index must verify. Exits with code 1 otherwise.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc

from benchmarks.ingest.server import WritableServer, complaints, create, problems
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.v1 import document_pb2, index_service_pb2, search_service_pb2
from tests.service.harness import SUBJECTS, word_model

COLLECTION = "tortured"
NAME = f"collections/{COLLECTION}"
URIS_OF_A_CLIENT = 60
HANGS = 0.1
"""Share of the processes that are stopped instead of killed: the server takes 30 s to notice."""
PASSING = ("UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNKNOWN")
DELETED = ""

State = dict[str, set[str]]
"""URI → texts that the document may have; ``DELETED`` for none."""


class Broken(AssertionError):
    """A promise was broken."""


class Client(threading.Thread):
    """Changes its own documents until it is stopped, and knows what each may hold."""

    def __init__(self, number: int, seed: int, place: "Place") -> None:
        super().__init__(daemon=True)
        self.state: State = {f"client{number}/{one}": {DELETED} for one in range(URIS_OF_A_CLIENT)}
        self.acknowledged = Counter[str]()
        self.failures = Counter[str]()
        self.broken: list[str] = []
        self.between = threading.Lock()
        """Held while an operation is under way."""
        self._pick = random.Random(f"{seed} {number}")
        self._place = place
        self._version = 0

    def run(self) -> None:
        """Change documents until the place is closed."""
        while not self._place.closed.is_set():
            with self.between:
                kind = self._pick.choices([self._put, self._remove, self._stream], [6, 2, 2])[0]
                try:
                    kind()
                except grpc.RpcError as error:
                    name = error.code().name
                    self.failures[name] += 1
                    # A document whose reader was killed is refused, and nothing of it is there.
                    if name not in PASSING and "SIGKILL" not in (error.details() or ""):
                        self.broken.append(f"{name}: {error.details()}")
                except ValueError:  # the channel was closed by a kill
                    self.failures["closed"] += 1
            # A server that starts refuses at once.
            time.sleep(self._pick.uniform(0, 0.05))

    def _text(self, uri: str) -> str:
        self._version += 1
        subject = self._pick.choice(list(SUBJECTS))
        facts = self._pick.choices(list(SUBJECTS.values()), k=self._pick.randrange(1, 12))
        return f"{uri} version {self._version} of the {subject}.\n\n" + "\n\n".join(facts)

    def _put(self) -> None:
        uri = self._pick.choice(list(self.state))
        text = self._text(uri)
        self.state[uri].add(text)
        self._place.server.ingest.PutDocument(
            pb.PutDocumentRequest(collection=NAME, uri=uri, text=text), timeout=30
        )
        self.state[uri] = {text}
        self.acknowledged["put"] += 1

    def _remove(self) -> None:
        uri = self._pick.choice(list(self.state))
        self.state[uri].add(DELETED)
        try:
            self._place.server.ingest.DeleteDocument(
                pb.DeleteDocumentRequest(collection=NAME, uri=uri), timeout=30
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            if DELETED not in self.state[uri]:
                self.broken.append(f"{uri} is gone")
        self.state[uri] = {DELETED}
        self.acknowledged["delete"] += 1

    def _stream(self) -> None:
        """Put a dozen documents, some of them twice: the last of a URI must win."""
        uris = self._pick.choices(list(self.state), k=12)
        texts = [self._text(uri) for uri in uris]
        for uri, text in zip(uris, texts, strict=True):
            self.state[uri].add(text)
        last = {uri: number for number, uri in enumerate(uris)}

        def requests() -> Iterator[pb.PutDocumentsRequest]:
            for number, (uri, text) in enumerate(zip(uris, texts, strict=True)):
                document = pb.PutDocumentRequest(collection=NAME, uri=uri, text=text)
                yield pb.PutDocumentsRequest(request_id=number, document=document)

        for answer in self._place.server.ingest.PutDocuments(requests(), timeout=60):
            if answer.HasField("error"):
                self.failures[f"in a stream: {answer.error.reason}"] += 1
                if answer.error.reason == "INTERNAL":
                    self.broken.append(f"in a stream: {answer.error.message}")
                continue
            number = answer.request_id
            self.acknowledged["streamed"] += 1
            if last[uris[number]] == number:
                self.state[uris[number]] = {texts[number]}
            else:  # it was there, and another one comes after it
                self.state[uris[number]] -= {DELETED}


class Place:
    """The server, its folder, and the clients."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.closed = threading.Event()
        self.server = self._start()

    def _start(self) -> WritableServer:
        return WritableServer(self.data, "--model", word_model(), log=self.log)

    def kill(self, pick: random.Random) -> str:
        """Kill the server, or one of its processes; start the server again if it was killed."""
        children = self.server.children()
        if children and pick.random() < 0.5:
            hangs = pick.random() < HANGS
            with suppress(ProcessLookupError):
                if hangs:
                    os.kill(children[0], signal.SIGSTOP)  # the writer process: all others are its
                else:
                    os.kill(pick.choice(children), signal.SIGKILL)
            return "hung" if hangs else "child"
        self.server.kill()
        self.server = self._start()
        return "server"

    def texts(self) -> dict[str, str]:
        """Return the text of every document, by URI.

        Raises:
            Broken: a URI is there twice.
        """
        self.server.index.ReloadCollection(
            index_service_pb2.ReloadCollectionRequest(name=NAME), timeout=60
        )
        found: dict[str, str] = {}
        token = ""
        while True:
            page = self.server.index.ListDocuments(
                index_service_pb2.ListDocumentsRequest(
                    parent=NAME, page_size=100, page_token=token
                ),
                timeout=60,
            )
            for row in page.documents:
                whole = self.server.index.GetDocument(
                    index_service_pb2.GetDocumentRequest(
                        name=row.name, view=document_pb2.DOCUMENT_VIEW_FULL
                    ),
                    timeout=60,
                )
                if row.uri in found:
                    raise Broken(f"{row.uri} is there twice")
                found[row.uri] = whole.document.text
            token = page.next_page_token
            if not token:
                return found

    def check(self, clients: list[Client]) -> int:
        """Compare every document with what it may hold; return how many there are.

        Raises:
            Broken: one holds something else.
        """
        texts = self.texts()
        for client in clients:
            if client.broken:
                raise Broken("; ".join(client.broken))
            for uri, allowed in client.state.items():
                text = texts.get(uri, DELETED)
                if text not in allowed:
                    raise Broken(f"{uri} is {text[:80]!r}, not {[one[:80] for one in allowed]}")
                client.state[uri] = {text}
        known = {uri for client in clients for uri in client.state}
        if strangers := set(texts) - known:
            raise Broken(f"nobody put {sorted(strangers)[:3]}")
        for uri, text in random.Random(len(texts)).sample(
            sorted(texts.items()), min(3, len(texts))
        ):
            self._find(uri, text)
        return len(texts)

    def _find(self, uri: str, text: str) -> None:
        answer = self.server.search.Search(
            search_service_pb2.SearchRequest(collection=NAME, text=text[:200], page_size=50),
            timeout=60,
        )
        if uri not in {hit.document.uri for hit in answer.passages}:
            raise Broken(f"a search for the words of {uri} does not find it")


def wait_for_progress(writers: list[Client]) -> None:
    """Wait until something is acknowledged.

    Raises:
        Broken: nothing is, for two minutes.
    """
    before = sum(writer.acknowledged.total() for writer in writers)
    deadline = time.monotonic() + 120
    while sum(writer.acknowledged.total() for writer in writers) == before:
        if time.monotonic() > deadline:
            raise Broken(f"nothing is acknowledged any more: {[w.failures for w in writers]}")
        time.sleep(0.01)


def torture(folder: Path, kills: int, clients: int, seed: int) -> None:
    """Kill again and again while clients write."""
    pick = random.Random(seed)
    place = Place(folder)
    create(place.server, COLLECTION)
    writers = [Client(number, seed, place) for number in range(clients)]
    for writer in writers:
        writer.start()
    killed = Counter[str]()
    started = time.monotonic()
    documents = 0
    for number in range(kills):
        if pick.random() < 0.9:  # the others hit servers and processes that are starting
            wait_for_progress(writers)
        time.sleep(pick.uniform(0.0, 1.5))
        what = place.kill(pick)
        killed[what] += 1
        if what == "server" or number % 10 == 9:
            for writer in writers:
                writer.between.acquire()
            try:
                documents = place.check(writers)
            finally:
                for writer in writers:
                    writer.between.release()
        if number % 10 == 9:
            done = sum((writer.acknowledged for writer in writers), Counter[str]())
            print(f"{number + 1} kills, {dict(done)}, {documents} documents", flush=True)
    place.closed.set()
    for writer in writers:
        writer.join()
    place.check(writers)
    place.server.stop()
    if wrong := problems(place.data / COLLECTION):
        raise Broken(f"verify: {wrong}")
    done = sum((writer.acknowledged for writer in writers), Counter[str]())
    failed = sum((writer.failures for writer in writers), Counter[str]())
    print(
        f"{dict(killed)} killed in {time.monotonic() - started:.0f} s; acknowledged {dict(done)}, "
        f"all found; failed and tried again {dict(failed)}; {documents} documents; verify whole"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seed = arguments.seed or random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            torture(Path(folder), arguments.kills, arguments.clients, seed)
        except Broken as error:
            print(f"BROKEN: {error}")
            print("\n".join(complaints(Path(folder, "server.log"))[-20:]))
            sys.exit(1)


if __name__ == "__main__":
    main()
