"""Put many small documents over one stream: how long do answers pause, how many files are left?

    python -m benchmarks.ingest.many [--puts 20000] [--seconds 30]

Prints the longest time between two answers of the stream, and the segments of vectors and of words
at its end and after a pause in which maintenance can finish. A tiny model embeds, so that commits
and maintenance are what takes the time.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.ingest.server import WritableServer, create, problems
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.store import open_reader
from tests.service.harness import SUBJECTS, word_model

COLLECTION = "many"


def requests(count: int) -> Iterator[pb.PutDocumentsRequest]:
    """Yield documents of one passage."""
    facts = list(SUBJECTS.values())
    for number in range(count):
        text = f"Note {number}. {facts[number % len(facts)]}"
        document = pb.PutDocumentRequest(
            collection=f"collections/{COLLECTION}", uri=f"notes/{number}", text=text
        )
        yield pb.PutDocumentsRequest(request_id=number, document=document)


def segments(index: Path) -> str:
    """Return the number of segments of vectors and of words in the newest generation."""
    with open_reader(index) as reader:
        vectors = len(reader.segments())
    words = len({path.stem for path in index.glob("lexical-*.idx")})
    return f"{vectors} + {words}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--puts", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="pause before the last look")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        with WritableServer(data, "--model", word_model()) as server:
            create(server, COLLECTION)
            answered, errors = [time.perf_counter()], 0
            generation = 0
            for answer in server.ingest.PutDocuments(requests(arguments.puts), timeout=3600):
                answered.append(time.perf_counter())
                errors += answer.HasField("error")
                generation = max(generation, answer.response.generation)
            seconds = answered[-1] - answered[0]
            pauses = np.diff(answered)
            at_end = segments(data / COLLECTION)
            time.sleep(arguments.seconds)
            after = segments(data / COLLECTION)
        wrong = problems(data / COLLECTION)
    print(
        f"{arguments.puts} puts in {seconds:.0f} s, {errors} errors, {generation} generations; "
        f"longest pauses {np.sort(pauses)[-4:].round(2)} s "
        f"at {np.argsort(pauses)[-4:]}, {(pauses > 1).sum()} over 1 s; "
        f"{at_end} segments at the end, {after} after {arguments.seconds:g} s; "
        f"{len(wrong)} problems"
    )


if __name__ == "__main__":
    main()
