"""Put hostile documents by the thousand: does the server stay up, and inside its folder?

    python -m benchmarks.ingest.fuzz [--puts 20000] [--seed N]

Files of every format with random damage, texts and passages of any characters, names and media
types that contradict the content, URIs with dots, slashes, controls and other scripts, metadata of
any depth and type, conditions that contradict each other. Some go over one stream, the others over
unary calls, many at once. Beside them, well-formed puts must succeed.

No answer may be INTERNAL or UNKNOWN, every well-formed document must be there at the end, the index
must verify, and nothing outside the server's own folder may be written: the server runs in a folder
with files whose content and times are compared afterwards. Exits with code 1 otherwise.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from benchmarks.common.processes import resident
from benchmarks.common.samples import make_samples
from benchmarks.corpora.fuzz import mutate
from benchmarks.ingest.server import WritableServer, complaints, create, problems
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.v1 import index_service_pb2
from tests.service.harness import word_model

COLLECTION = "fuzzed"
NAME = f"collections/{COLLECTION}"
BAD_CODES = ("INTERNAL", "UNKNOWN", "DATA_LOSS")
THREADS = 8
GOOD_EVERY = 20
"""One well-formed put among so many."""

URIS = [
    *("", "/", ".", "..", "../../etc/passwd", "/etc/passwd", "a/../b", "a//b", "a/", "/a", "a/."),
    *("C:\\windows\\system32", "\\\\host\\share", "~/.ssh/id_rsa", "$HOME/x", "`id`", "a\0b"),
    *("a\nb", "a\rb", "\x1b[2J", "a\u202eb", "\ufeff", "a" * 1024, "a" * 1025, "é" * 1024),
    *(
        "👩‍👩‍👧‍👦/🗂",
        "文書/目次",
        "كتاب/فصل",
        "a b/c d",
        "%2e%2e/%2f",
        "file:///etc/passwd",
        "x://",
        "://",
    ),
    *(
        "https://example.com/a?b=c#d",
        "index.db",
        "vectors-1.faiss",
        "writer.lock",
        "con",
        "nul.txt",
    ),
    *("'; DROP TABLE documents; --", "*", "?", "[a-z]", "\\", "a\u0000", "\u2028", "a/b/c/" * 100),
]
NAMES = [
    "",
    *(f"x{end}" for end in (".md", ".pdf", ".zip", ".exe", ".", "..md", "/../x.md", ".💥")),
]
MEDIA = [
    *("", "text/markdown", "text/html; charset=utf-16", "application/pdf", "image/png", "x", "/"),
    *("text/plain; charset=rot13", "application/zip", "message/rfc822", "text/plain;charset=\0"),
]


class Puts:
    """Makes hostile puts from a seed, and the well-formed ones among them."""

    def __init__(self, seed: int) -> None:
        self._pick = random.Random(seed)
        samples = make_samples(None)
        self._samples = [(end, data) for end, datas in samples.items() for data in datas]
        self._datas = [data for _, data in self._samples]
        self.good: dict[str, str] = {}

    def make(self, number: int) -> pb.PutDocumentRequest:
        """Return the put of a number."""
        pick = self._pick
        if number % GOOD_EVERY == 0:
            uri, text = f"good/{number}", f"Document {number} is well formed."
            self.good[uri] = text
            return pb.PutDocumentRequest(collection=NAME, uri=uri, text=text)
        end, sample = pick.choice(self._samples)
        uri = f"bad/{number}{end}" if pick.random() < 0.7 else pick.choice(URIS)
        put = pb.PutDocumentRequest(collection=NAME, uri=uri)
        kind = pick.random()
        if kind < 0.6:
            damaged = pick.random() < 0.7
            put.data = mutate(sample, self._datas, pick) if damaged else sample
        elif kind < 0.8:
            put.text = self._text()
        elif kind < 0.95:
            for _ in range(pick.randrange(6)):
                passage = put.passages.passages.add(text=self._text(), page=self._number())
                passage.heading_path.extend(self._text()[:50] for _ in range(pick.randrange(3)))
        if pick.random() < 0.3:
            put.file_name, put.media_type = pick.choice(NAMES), pick.choice(MEDIA)
        if pick.random() < 0.2:
            put.title, put.language = (
                self._text(),
                pick.choice(["", "en", "xx-YY-zz", "\0", "e" * 99]),
            )
        if pick.random() < 0.3:
            put.metadata.update(
                {self._text()[:40]: self._value(3) for _ in range(pick.randrange(8))}
            )
        if pick.random() < 0.1:
            put.modify_time.seconds, put.modify_time.nanos = self._number(), self._number() % 2**31
        put.if_absent = pick.random() < 0.05
        put.if_sha256 = pick.choice(["", "", "", "", "0" * 64, "x", "é"])
        return put

    def _number(self) -> int:
        return self._pick.choice([0, 1, 2, -1, 2**31 - 1, -(2**31), 253402300800 % 2**31])

    def _text(self) -> str:
        pick = self._pick
        size = pick.choice([0, 1, 5, 50, 500, 5_000])
        kinds = [
            "abc é 文 \n",
            "\t\n\r\x0b\x0c \u00a0\u2028\u200b",
            "\0\x01\x1f\x7f\u0085",
            "👩‍👧\u202e\ufeff",
        ]
        return "".join(pick.choices(pick.choice(kinds), k=size))

    def _value(self, depth: int) -> Any:
        pick = self._pick
        kind = pick.randrange(7 if depth else 5)
        if kind < 5:
            return [None, pick.random() < 0.5, pick.choice([0, 1e308, -1e-308]), self._text(), ""][
                kind
            ]
        many = range(pick.randrange(5))
        if kind == 5:
            return [self._value(depth - 1) for _ in many]
        return {self._text()[:20] or "k": self._value(depth - 1) for _ in many}


def put_all(server: WritableServer, puts: Puts, count: int) -> Counter[str]:
    """Send all puts; return the number of answers by status."""
    seen = Counter[str]()

    def one(request: pb.PutDocumentRequest) -> None:
        try:
            server.ingest.PutDocument(request, timeout=300)
            seen["OK"] += 1
        except grpc.RpcError as error:
            note(error.code().name, error.details() or "", request)

    def note(name: str, message: str, request: pb.PutDocumentRequest) -> None:
        seen[name] += 1
        if name in BAD_CODES or request.uri in puts.good:
            seen["bad"] += 1
            print(
                f"{name} for {request.uri!r} ({request.WhichOneof('content')}): {message}",
                flush=True,
            )

    half = count // 2
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, (puts.make(number) for number in range(half))))
    sent: dict[int, pb.PutDocumentRequest] = {}

    def requests() -> Iterator[pb.PutDocumentsRequest]:
        for number in range(half, count):
            sent[number] = puts.make(number)
            yield pb.PutDocumentsRequest(request_id=number, document=sent[number])

    for answer in server.ingest.PutDocuments(requests(), timeout=7200):
        request = sent.pop(answer.request_id)
        if answer.HasField("error"):
            code = next(code for code in grpc.StatusCode if code.value[0] == answer.error.code)
            note(code.name, answer.error.message, request)
        else:
            seen["OK"] += 1
    if sent:
        seen["bad"] += 1
        print(f"{len(sent)} puts of the stream were never answered")
    return seen


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time of every file below a folder, by path."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def listed(server: WritableServer) -> set[str]:
    """Return the URIs of all documents."""
    server.index.ReloadCollection(index_service_pb2.ReloadCollectionRequest(name=NAME), timeout=60)
    uris, token = set(), ""
    while True:
        request = index_service_pb2.ListDocumentsRequest(
            parent=NAME, page_size=500, page_token=token
        )
        page = server.index.ListDocuments(request, timeout=60)
        uris |= {row.uri for row in page.documents}
        token = page.next_page_token
        if not token:
            return uris


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--puts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seed = arguments.seed or random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    model = word_model()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for inside in ("home", "here", "tmp"):
            (folder / inside).mkdir()
            (folder / inside / "precious.txt").write_text("stays as it is")
        os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        os.chdir(folder / "here")
        before = everything(folder)
        log = folder / "server.log"
        puts = Puts(seed)
        started = time.monotonic()
        with WritableServer(folder / "data", "--model", model, log=log) as server:
            create(server, COLLECTION)
            early = resident(server.process.pid)
            seen = put_all(server, puts, arguments.puts)
            missing = set(puts.good) - listed(server)
            late = resident(server.process.pid)
        wrong = problems(folder / "data" / COLLECTION)
        after = {
            path: stamp
            for path, stamp in everything(folder).items()
            if not path.startswith((str(folder / "data"), str(log)))
        }
        touched = sorted(set(before.items()) ^ set(after.items()))
        seconds = time.monotonic() - started
        print(f"{arguments.puts} puts in {seconds:.0f} s: {dict(seen)}")
        print(
            f"{len(puts.good)} well-formed, "
            f"{len(missing)} missing; resident {early:.0f} → {late:.0f} MB; {len(wrong)} problems; "
            f"{len(touched)} files touched outside"
        )
        for what in (*sorted(missing)[:3], *wrong[:3], *touched[:3]):
            print(f"  {what}")
        if seen["bad"] or missing or wrong or touched:
            print("\n".join(complaints(log)[-20:]))
            sys.exit(1)


if __name__ == "__main__":
    main()
