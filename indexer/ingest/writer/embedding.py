"""The thread that embeds what all puts need, a slice of each in turn.

A slice takes texts of many puts together, so small puts fill the model's batches. Requests take
turns, each with a share of the slice, and so do the puts of one request: a stream of a thousand
documents does not hold up a single put, nor a long document the others.
"""

import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from indexer.readers.turns import TurnQueue
from retrieval.errors import NotServing

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

LOG = logging.getLogger("retrieval.ingest")

SLICE_TOKENS: Final = 4096
"""Number of tokens to embed at a time: enough for full batches, and half a second on a slow CPU,
which a put that comes meanwhile has to wait."""
_SHARE_TOKENS: Final = 512
"""Number of tokens that a put gets of a slice before the next turn."""


@dataclass(frozen=True, slots=True)
class Vector:
    """The vector of a text."""

    vector: NDArray[np.float32]
    """[dim], L2-normalised."""
    truncated: bool
    """Whether the text was longer than the model reads."""
    tokens: int
    """Number of tokens that went through the model."""


@dataclass(slots=True, eq=False)
class _Text:
    """A text to embed, and the puts that need it."""

    text: str
    tokens: int
    jobs: "list[_Job]" = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Job:
    """The texts of one put."""

    turn: str
    """The request that the put is of."""
    encoder: "Encoder"
    result: "Future[Mapping[str, Vector]]"
    todo: deque[_Text] = field(default_factory=deque)
    """Texts that this job takes to the model; others it shares with earlier jobs."""
    missing: int = 0
    """Number of texts without a vector, shared ones included."""
    vectors: dict[str, Vector] = field(default_factory=dict)


class Embedding:
    """Embeds texts in a thread of its own; thread-safe."""

    def __init__(self, slice_tokens: int = SLICE_TOKENS) -> None:
        """Start the thread.

        Args:
            slice_tokens: number of tokens to embed at a time.
        """
        self._slice_tokens = slice_tokens
        self._jobs = TurnQueue[_Job]()
        """Puts with texts to embed."""
        self._texts: dict[tuple[str, str], _Text] = {}
        """Texts that are to be embedded, by fingerprint of the model and text."""
        self._closed = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="embedding", daemon=True)
        self._thread.start()

    def embed(
        self, encoder: "Encoder", texts: Mapping[str, int], turn: str = ""
    ) -> "Future[Mapping[str, Vector]]":
        """Embed passages.

        Args:
            encoder: the model.
            texts: passages, and about how many tokens each has.
            turn: the request that they are for; those of one request share its turns.

        Returns:
            what becomes the vector of each text. If it is cancelled, the rest is not embedded.
        """
        job = _Job(turn, encoder, Future(), missing=len(texts))
        if not texts:
            job.result.set_result({})
            return job.result
        with self._changed:
            if self._closed:
                job.result.set_exception(_closing())
                return job.result
            for text, tokens in texts.items():
                key = (encoder.identity.fingerprint, text)
                shared = self._texts.get(key)
                if shared is None:
                    shared = self._texts[key] = _Text(text, tokens)
                    job.todo.append(shared)
                shared.jobs.append(job)
            if job.todo:
                self._jobs.add(turn, job)
                self._changed.notify()
        return job.result

    def close(self) -> None:
        """End the thread after the present slice; what waits fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            waiting = {job for text in self._texts.values() for job in text.jobs}
        self._thread.join()
        for job in waiting:
            _settle(job, _closing())

    def _run(self) -> None:
        while (work := self._next_slice()) is not None:
            encoder, texts = work
            try:
                embedded = encoder.embed([one.text for one in texts], "passage")
            except Exception as error:  # noqa: BLE001 -- those who wait raise it
                self._failed(encoder, texts, error)
                continue
            rows = zip(embedded.vectors, embedded.truncated, embedded.token_counts, strict=True)
            self._done(encoder, texts, [Vector(*row) for row in rows])

    def _next_slice(self) -> "tuple[Encoder, list[_Text]] | None":
        """Wait for texts, and take those of the next slice, all of one model."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return None
            encoder = self._jobs.peek().encoder
            taken: list[_Text] = []
            tokens = passed = 0  # passed: how many jobs of other models in a row
            most = len(self._jobs)
            while self._jobs and tokens < self._slice_tokens and passed < most:
                job = self._jobs.take()
                if job.encoder is encoder:
                    passed = 0
                    tokens += self._take_share(job, taken)
                else:
                    passed += 1
                if job.todo:
                    self._jobs.add(job.turn, job)
            return encoder, taken

    def _take_share(self, job: _Job, taken: list[_Text]) -> int:
        """Take texts of a job; return their tokens."""
        tokens = 0
        while job.todo and tokens < _SHARE_TOKENS:
            text = job.todo.popleft()
            if all(one.result.cancelled() for one in text.jobs):
                del self._texts[job.encoder.identity.fingerprint, text.text]
                continue
            tokens += text.tokens + 1
            taken.append(text)
        return tokens

    def _done(self, encoder: "Encoder", texts: list[_Text], vectors: list[Vector]) -> None:
        finished: list[_Job] = []
        with self._changed:
            for text, vector in zip(texts, vectors, strict=True):
                del self._texts[encoder.identity.fingerprint, text.text]
                for job in text.jobs:
                    job.vectors[text.text] = vector
                    job.missing -= 1
                    if not job.missing:
                        finished.append(job)
        for job in finished:
            _settle(job)

    def _failed(self, encoder: "Encoder", texts: list[_Text], error: Exception) -> None:
        """Embed the texts of a slice one by one; fail the puts of those that can't be."""
        for text in texts:
            try:
                one = encoder.embed([text.text], "passage")
            except Exception as own:  # noqa: BLE001 -- as above
                self._fail(encoder, text, own)
            else:
                vector = Vector(one.vectors[0], one.truncated[0], one.token_counts[0])
                self._done(encoder, [text], [vector])
        LOG.warning("a slice of %d texts was embedded one by one: %s", len(texts), error)

    def _fail(self, encoder: "Encoder", text: _Text, error: Exception) -> None:
        with self._changed:
            del self._texts[encoder.identity.fingerprint, text.text]
        for job in text.jobs:
            _settle(job, error)


def _settle(job: _Job, error: Exception | None = None) -> None:
    """Give a job its result, unless nobody waits for it any more."""
    if job.result.done() or not job.result.set_running_or_notify_cancel():
        return
    if error is None:
        job.result.set_result(job.vectors)
    else:
        job.result.set_exception(error)


def _closing() -> NotServing:
    return NotServing("the server is shutting down")
