"""Push a folder of documents over the wire, and search meanwhile: throughput, visibility, p99.

    python -m benchmarks.ingest FOLDER [--most-mb 8] [--rounds 2] [--rate 20] [--model NAME]

1. Throughput: ``indexer build`` of a part of the folder, and the same files pushed through one
   ``PutDocuments`` stream, in turn. The time of a push ends with its last answer, so everything is
   committed. The start of the build's process and the loading of its model count; those of the
   server don't: the ratio of the pure times is printed, too.
2. Visibility: single documents with a word of their own are put, to a quiet server and beside a
   stream that pushes at full speed. From the answer to the put until a search finds the word.
3. Searches at a fixed rate (open loop: the time of a search counts from when it was due), alone and
   beside the stream.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ingest.server import BIN, MAX_MESSAGE_BYTES, WritableServer, create
from indexer.files.discover import discover
from indexer.files.sniff import without_binaries
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.v1 import search_service_pb2 as search_pb

COLLECTION = "pushed"
NAME = f"collections/{COLLECTION}"
POLL_SECONDS = 0.005


def chosen_files(folder: Path, most_bytes: int) -> list[tuple[str, Path]]:
    """Return URIs and paths of files spread over a folder, those that a build would read."""
    found = without_binaries(discover([folder]), lambda _: False)
    files = [(one.uri, one.path) for one in found.files if one.size < MAX_MESSAGE_BYTES // 2]
    random.Random(7).shuffle(files)
    chosen, size = [], 0
    for uri, path in files:
        size += path.stat().st_size
        if size > most_bytes:
            break
        chosen.append((uri, path))
    return sorted(chosen)


def copied(files: Sequence[tuple[str, Path]], folder: Path) -> Path:
    """Copy files to a folder of their own, for a build of nothing else."""
    for uri, path in files:
        target = folder / uri
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def built(folder: Path, index: Path, options: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Build an index; return seconds and the report."""
    roots = sorted(folder.iterdir())
    command = [BIN / "indexer", "build", *roots, "--index", index, "--json", *options]
    started = time.perf_counter()
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - started, json.loads(done.stdout)


class Push:
    """One ``PutDocuments`` stream over some files."""

    def __init__(self, server: WritableServer, files: Sequence[tuple[str, Path]]) -> None:
        self._server = server
        self._files = files
        self.stop = threading.Event()
        self.passages = 0
        self.errors: list[str] = []

    def run(self, *, again: bool = False) -> float:
        """Push all files, over and over under new URIs if ``again``; return the seconds."""
        started = time.perf_counter()
        for answer in self._server.ingest.PutDocuments(self._requests(again=again), timeout=7200):
            if answer.HasField("error"):
                self.errors.append(answer.error.message)
            else:
                self.passages += sum(one.passage_count for one in answer.response.documents)
        return time.perf_counter() - started

    def _requests(self, *, again: bool) -> Iterator[pb.PutDocumentsRequest]:
        number = turn = 0
        while True:
            for uri, path in self._files:
                if self.stop.is_set():
                    return
                data, name = path.read_bytes(), uri
                if turn:  # other paragraphs, or nothing would be embedded
                    data = data.replace(b"\n\n", b"\n\nIn turn %d: " % turn)
                    name = f"{turn}/{uri}"
                document = pb.PutDocumentRequest(
                    collection=NAME, uri=name, data=data, file_name=path.name
                )
                yield pb.PutDocumentsRequest(request_id=number, document=document)
                number += 1
            if not again:
                return
            turn += 1


def throughput(
    files: Sequence[tuple[str, Path]], folder: Path, options: Sequence[str], rounds: int
) -> list[dict[str, float]]:
    """Build and push the same files in turn."""
    docs = copied(files, folder / "docs")
    rows = []
    for turn in range(rounds):
        seconds, report = built(docs, folder / f"built-{turn}", options)
        with WritableServer(folder / f"data-{turn}", *options) as server:
            create(server, COLLECTION)
            server.ingest.PutDocument(
                pb.PutDocumentRequest(collection=NAME, uri="first", text="loads the model"),
                timeout=300,
            )
            push = Push(server, files)
            pushed = push.run()
        rows.append(
            {
                "build_seconds": round(seconds, 2),
                "build_inner_seconds": round(report["seconds"], 2),
                "build_model_seconds": round(report["model_seconds"], 2),
                "push_seconds": round(pushed, 2),
                "passages_built": report["chunks"]["embedded"] + report["chunks"]["reused"],
                "passages_pushed": push.passages,
                "errors": len(push.errors),
                "ratio": round(seconds / pushed, 3),
                "inner_ratio": round(report["seconds"] / pushed, 3),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def found_after(server: WritableServer, count: int) -> dict[str, Any]:
    """Put single documents; measure the time of the put, and from its answer until it is found."""
    puts, seen = [], []
    for number in range(count):
        word = f"zq{time.monotonic_ns():x}v{number}"
        started = time.perf_counter()
        server.ingest.PutDocument(
            pb.PutDocumentRequest(
                collection=NAME, uri=f"single/{word}", text=f"A note about {word}."
            ),
            timeout=120,
        )
        answered = time.perf_counter()
        request = search_pb.SearchRequest(
            collection=NAME, text=word, page_size=1, mode=search_pb.SEARCH_MODE_LEXICAL
        )
        while not server.search.Search(request, timeout=30).passages:
            time.sleep(POLL_SECONDS)
        puts.append(answered - started)
        seen.append(time.perf_counter() - answered)
        time.sleep(0.1)
    return {"put": percentiles(puts), "found_after_answer": percentiles(seen)}


def searched(server: WritableServer, rate: float, seconds: float) -> dict[str, float]:
    """Search at a fixed rate; return percentiles of the seconds since each was due."""
    queries = ["how to install", "build an index", "configuration of the server", "error message"]
    times: list[float] = []
    pick = random.Random(3)

    def on_done(due: float) -> Any:
        return lambda _: times.append(time.perf_counter() - due)

    started, calls = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = started + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        query = f"{pick.choice(queries)} {pick.randrange(10**6)}"
        call = server.search.Search.future(
            search_pb.SearchRequest(collection=NAME, text=query, page_size=10), timeout=30
        )
        call.add_done_callback(on_done(due))
        calls.append(call)
    for call in calls:
        call.result()
    return percentiles(times)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return some percentiles, in seconds."""
    return {f"p{part}": round(float(np.percentile(values, part)), 4) for part in (50, 95, 99, 100)}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most-mb", type=float, default=8.0, help="size of the files to push")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=20.0, help="searches a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each search run")
    parser.add_argument("--puts", type=int, default=40, help="single puts to find again")
    parser.add_argument("--model", default="")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = ["--model", arguments.model] if arguments.model else []
    files = chosen_files(arguments.folder, int(arguments.most_mb * 1e6))
    report: dict[str, Any] = {"files": len(files)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report["throughput"] = throughput(files, folder, options, arguments.rounds)
        with WritableServer(folder / "data", *options) as server:
            create(server, COLLECTION)
            few = Push(server, files[: max(50, len(files) // 4)])
            few.run()
            searched(server, arguments.rate, 3)
            report["searches_alone"] = searched(server, arguments.rate, arguments.seconds)
            report["visibility_alone"] = found_after(server, arguments.puts)
            push = Push(server, files)
            pushing = threading.Thread(target=lambda: push.run(again=True))
            pushing.start()
            time.sleep(3)
            report["searches_beside"] = searched(server, arguments.rate, arguments.seconds)
            report["visibility_beside"] = found_after(server, arguments.puts)
            push.stop.set()
            pushing.join()
            report["pushed_beside"] = push.passages
            report["errors_beside"] = len(push.errors)
    print(json.dumps(report, indent=1) if arguments.json else shown(report))


def shown(report: dict[str, Any]) -> str:
    """Return a report as lines."""
    lines = [f"{report['files']} files"]
    lines += [f"build and push: {row}" for row in report["throughput"]]
    lines += [f"{key}: {value}" for key, value in report.items() if key not in lines[0]][1:]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
