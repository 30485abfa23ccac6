"""A client that calls every method, checks every answer, and retries.

    python -m benchmarks.soak.client ADDRESS TRUTH.json SEED      (started by benchmarks/soak/)

Works until a line (or the end) of standard input, then prints one JSON object.

These must hold: a passage that is searched by its own text comes first, with exactly that text;
texts that change are the same within a generation, whatever method returns them and when; a batch,
a stream and a single search agree; and every failure has a status that asks for a retry.
"""

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from retrieval.client import RetrievalClient
from retrieval.domain.passages import Passage
from retrieval.errors import ServiceError

PATIENCE_SECONDS = 60
RETRYABLE = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
SURE = 0.98
"""Minimum score of a passage searched by its own text; an int8 query may meet a float32 passage."""


class Wrong(AssertionError):
    """An answer is wrong."""


class Checker:
    """Calls the service and compares answers with the expected ones."""

    def __init__(self, client: RetrievalClient, truth: Mapping[str, str], seed: int) -> None:
        self._client = client
        self._truth = truth
        self._uris = sorted(truth)
        self._random = random.Random(seed)
        self._changing: dict[tuple[int, str], str] = {}
        self.asked = ""
        """What was asked for last."""

    def ask(self) -> None:
        """Send one random request and check its answer.

        Raises:
            Wrong: the answer is wrong.
            ServiceError: there was no answer.
        """
        way = self._random.choice(
            [self.single] * 6 + [self.batch, self.stream, self.embed, self.look]
        )
        self.asked = way.__name__
        way()

    def single(self) -> None:
        """Check one search."""
        uri = self._random.choice(self._uris)
        results = self._client.search(self._truth[uri], k=5)
        self._check(uri, results.generation, list(results))

    def batch(self) -> None:
        """Check a batch of searches."""
        uris = self._random.sample(self._uris, 4)
        for uri, results in zip(
            uris, self._client.search_batch([self._truth[uri] for uri in uris], k=3), strict=True
        ):
            self._check(uri, results.generation, list(results))

    def stream(self) -> None:
        """Check a stream of passages, sometimes abandoned early."""
        uri = self._random.choice(self._uris)
        stream = self._client.stream_search(self._truth[uri], limit=50)
        wanted = self._random.choice([1, 50])
        passages = [passage for passage, _ in zip(stream, range(wanted), strict=False)]
        self._check(uri, stream.generation, passages)

    def embed(self) -> None:
        """Check the vectors of texts: of length 1, and each text's own."""
        uri = self._random.choice(self._uris)
        twice = self._client.embed([self._truth[uri], self._truth[uri]], "passage")
        if not np.allclose(np.linalg.norm(twice, axis=1), 1, atol=1e-3):
            raise Wrong("a vector is not of length 1")
        if not np.allclose(twice[0], twice[1], atol=1e-4):
            raise Wrong("one text has two vectors")

    def look(self) -> None:
        """Check a passage and its document."""
        uri = self._random.choice(self._uris)
        results = self._client.search(self._truth[uri], k=1)
        self._check(uri, results.generation, list(results))
        context = self._client.passage(results[0].name)
        if context.passage.text != self._truth[uri]:
            raise Wrong(f"{results[0].name} is not what was found")

    def _check(self, uri: str, generation: int, passages: list[Passage]) -> None:
        best = passages[0] if passages else None
        if best is None or best.uri != uri or best.score is None or best.score < SURE:
            raise Wrong(f"{uri} is not the first for its own text: {best}")
        scores = [passage.score or 0.0 for passage in passages]
        if scores != sorted(scores, reverse=True):
            raise Wrong(f"not best first: {scores}")
        for passage in passages:
            known = self._truth.get(passage.uri)
            if known is None:
                known = self._changing.setdefault((generation, passage.uri), passage.text)
            if passage.text != known:
                raise Wrong(f"{passage.uri} of generation {generation}: {passage.text!r}")


def work(checker: Checker, stop: threading.Event, seen: Counter[str]) -> None:
    """Send requests until stopped; retry each as its status allows."""
    while not stop.is_set():
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                checker.ask()
                seen["answered"] += 1
            except Wrong as error:
                seen["wrong"] += 1
                print(f"wrong: {error}", file=sys.stderr, flush=True)
            except ServiceError as error:
                seen[error.status] += 1
                if error.status in RETRYABLE and time.monotonic() < until:
                    time.sleep(0.2)
                    continue
                seen["lost"] += 1
                when = time.strftime("%H:%M:%S")
                lost = f"lost at {when}: {checker.asked}: {error.status} {error.message}"
                print(lost, file=sys.stderr, flush=True)
            break


def main() -> None:
    """Run the client until stopped, and print its results."""
    address, truth, seed = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])
    stop, seen = threading.Event(), Counter[str]()
    with RetrievalClient(address, timeout=30) as client:
        threads = [
            threading.Thread(target=work, args=(Checker(client, truth, seed + n), stop, seen))
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        sys.stdin.readline()
        stop.set()
        for thread in threads:
            thread.join()
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
