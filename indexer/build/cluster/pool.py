"""Workers on a cluster, and the tasks that they have: a lost worker costs its unfinished tasks.

The pool keeps each task until its result has come. If a worker is lost with its node, its tasks go
to the others at once, and a new worker is started as soon as a node has room for it. Ray could
restart actors and repeat their tasks, too, but the tasks would wait for that very actor.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from types import ModuleType, TracebackType
from typing import Any, Final, Self

from indexer.build.cluster.session import check_answers, head_of
from indexer.build.cluster.worker import ClusterWorker, Loaded, Refused, Wanted
from indexer.parse.formats import read_with_extras
from retrieval import __version__
from retrieval.domain.wording import counted
from retrieval.errors import ClusterLost, ClusterUnavailable

NO_WORKER_SECONDS: Final = 120.0
"""Time without any worker after which a build gives up: nodes of a cloud start within it."""
HEAD_SECONDS: Final = 30.0
"""Time without an answer of the cluster's head after which a build gives up. Ray ends the program
after 60 seconds, without a word."""
_LOOK_SECONDS: Final = 1.0
"""Time between two looks at the nodes of the cluster."""
_WAITING_SECONDS: Final = 5.0
"""Time without any worker after which the user is told what is missing."""
_AT_ONCE: Final = 2
"""Number of tasks of a kind that a worker has: one that it does, and one more, so that it never
waits."""
_MAX_LOSSES: Final = 5
"""Number of workers that may be lost with a task. More is not chance: the task ends them, as where
a node has too little memory for the model."""
_COLOUR: Final = re.compile(r"\x1b\[[\d;]*m")
"""How Ray colours the first line of an error."""


@dataclass(frozen=True, slots=True)
class Share:
    """What workers get of a cluster."""

    cpus: int = 1
    """Cores of each worker."""
    gpus: float = 0.0
    """GPUs of each worker; below 1, several workers share one."""
    workers: int | None = None
    """Number of workers, which wait for nodes if need be; None for as many as there is room for."""

    def fits(self, resources: dict[str, float]) -> int:
        """Return how many workers a node has room for."""
        room = resources.get("CPU", 0.0) / self.cpus
        if self.gpus:
            room = min(room, resources.get("GPU", 0.0) / self.gpus)
        return int(room + 1e-6)  # a third of a GPU is not exact

    def __str__(self) -> str:
        """Return the share of one worker as text."""
        return counted(self.cpus, "CPU") + (f" and {self.gpus:g} GPU" if self.gpus else "")


@dataclass(eq=False, slots=True)
class _Task:
    """A call of a worker's method."""

    method: str
    arguments: tuple[Any, ...]
    result: "Future[Any]" = field(default_factory=Future)
    losses: int = 0
    """Number of workers that were lost with it."""


@dataclass(eq=False, slots=True)
class _Worker:
    """An actor."""

    handle: Any
    round: int
    """Number of times that workers had been lost before they were ready, when it was started."""
    node: str = ""
    """Id of its node; empty until it has answered."""
    ready: bool = False
    """Whether it has the model."""
    running: list[_Task] = field(default_factory=list)

    def count(self, method: str) -> int:
        """Return how many tasks of a kind it has."""
        return sum(task.method == method for task in self.running)


@dataclass(slots=True)
class _Answered:
    """An answer of a worker, or its loss."""

    worker: _Worker
    task: _Task
    answer: "Future[Any]"


class Pool:
    """Workers on the cluster that Ray is connected to; a context manager, thread-safe."""

    def __init__(
        self, ray: ModuleType, wanted: Wanted, share: Share, note: Callable[[str], None]
    ) -> None:
        """Start as many workers as there is room for, without waiting for them.

        Args:
            ray: Ray, connected.
            wanted: the model that they load.
            share: what they get of the cluster.
            note: receives a line when workers come or are lost, from another thread.
        """
        self._ray = ray
        self._wanted = wanted
        self._share = share
        self._note = note
        self._events = SimpleQueue[_Task | _Answered | None]()
        self._waiting: dict[str, deque[_Task]] = {}
        self._workers: list[_Worker] = []
        self._actors = ray.remote(ClusterWorker).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            # Two calls of each kind, and one to say hello.
            max_concurrency=2 * _AT_ONCE + 1,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        self._error: Exception | None = None
        self._since, self._told = time.monotonic(), False
        self._head, self._head_seen = head_of(ray), time.monotonic()
        self._closed = False
        self._round, self._failed_starts = 0, 0
        self.loaded: Future[Loaded] = Future()
        """The model as the first worker has loaded it."""
        self._thread = Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """Number of workers that are ready, at least 1."""
        return max(1, sum(worker.ready for worker in tuple(self._workers)))

    def submit(self, method: str, *arguments: object) -> "Future[Any]":
        """Have a worker call one of its methods; cancelling the future forgets the call.

        Args:
            method: ``read`` or ``embed``, which give the same result however often they are called.
            arguments: its arguments.

        Returns:
            the result, whatever becomes of single workers; or the error of the method, or
            ``ClusterLost``.
        """
        task = _Task(method, arguments)
        self._events.put(task)
        return task.result

    def in_order(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the results of calls, in their order.

        Few calls are drawn ahead of the first whose result has not been yielded, so memory does not
        grow with their number.

        Args:
            calls: arguments of ``submit``.
        """
        pending: deque[Future[Any]] = deque()
        drawn = iter(calls)
        try:
            while True:
                while len(pending) <= self.ahead and (call := next(drawn, None)) is not None:
                    pending.append(self.submit(*call))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    @property
    def ahead(self) -> int:
        """Number of calls that keep all workers busy, also while one is repeated."""
        return (_AT_ONCE + 1) * self.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._events.put(None)
        self._thread.join()

    # All that follows runs in the pool's own thread.

    def _run(self) -> None:
        try:
            self._work()
        except (RuntimeError, ConnectionError, self._ray.exceptions.RayError) as error:
            self._fail(ClusterLost(f"the connection to the Ray cluster is lost: {_line(error)}"))
        except Exception as error:  # noqa: BLE001 -- whoever waits for a task raises it
            self._fail(error)
        while not self._closed:  # refuse what comes after an error
            if isinstance(event := self._events.get(), _Task):
                self._give_up(event)
        self._end_workers()

    def _end_workers(self) -> None:
        """End them, unless the cluster is lost: Ray would wait for it, and ends them by itself."""
        if isinstance(self._error, ClusterLost):
            return
        try:
            check_answers(self._head, _LOOK_SECONDS)
        except OSError:
            return
        for worker in self._workers:
            with suppress(self._ray.exceptions.RayError):  # it has ended by itself
                self._ray.kill(worker.handle)

    def _work(self) -> None:
        looked = 0.0
        while not self._closed and self._error is None:
            if time.monotonic() - looked >= _LOOK_SECONDS:
                self._look()
                looked = time.monotonic()
                continue  # it may have given up
            try:
                event = self._events.get(timeout=_LOOK_SECONDS)
            except Empty:
                continue
            if isinstance(event, _Task):
                self._waiting.setdefault(event.method, deque()).append(event)
            elif event is not None and event.worker in self._workers:
                self._answered(event)
            self._assign()

    def _look(self) -> None:
        """Drop workers of nodes that are gone, and start workers where there is room."""
        if not self._head_answers():
            return
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        alive = {node["NodeID"] for node in nodes}
        for worker in [one for one in self._workers if one.node and one.node not in alive]:
            self._lose(worker)
        if self._error is not None:
            return
        room = sum(self._share.fits(node["Resources"]) for node in nodes)
        # Those that there is no room for wait: a cluster that grows by itself sees what is needed.
        wanted = self._share.workers or max(1, room)
        while len(self._workers) < wanted:
            worker = _Worker(self._actors.remote(self._share.cpus), self._round)
            self._workers.append(worker)
            self._send(worker, _Task("hello", ()))
        self._check_waiting()

    def _head_answers(self) -> bool:
        """Whether the head can be asked; give up if it can't for a while."""
        now = time.monotonic()
        try:
            check_answers(self._head, _LOOK_SECONDS)
        except OSError as error:
            if now - self._head_seen > HEAD_SECONDS:
                self._fail(ClusterLost(f"the head of the Ray cluster is lost: {error}"))
            return False
        self._head_seen = now
        return True

    def _check_waiting(self) -> None:
        """Tell the user that no worker starts; give up after a while."""
        now = time.monotonic()
        if any(worker.ready or worker.count("load") for worker in self._workers):
            self._since, self._told = now, False
            return
        if now - self._since > _WAITING_SECONDS and not self._told:
            self._told = True
            self._note(f"waiting for a node of the cluster with {self._share} to spare")
        if now - self._since > NO_WORKER_SECONDS:
            kind = ClusterLost if self.loaded.done() else ClusterUnavailable
            self._fail(
                kind(
                    f"no node of the Ray cluster has had {self._share} to spare for "
                    f"{NO_WORKER_SECONDS:.0f} s: start nodes, or see `ray status`"
                )
            )

    def _send(self, worker: _Worker, task: _Task) -> None:
        worker.running.append(task)
        reference = getattr(worker.handle, task.method).remote(*task.arguments)
        reference.future().add_done_callback(
            lambda answer: self._events.put(_Answered(worker, task, answer))
        )

    def _assign(self) -> None:
        """Give tasks that wait to the workers that have the fewest of their kind."""
        if self._error is not None:
            return
        for method, tasks in self._waiting.items():
            while tasks:
                if tasks[0].result.cancelled():
                    tasks.popleft()
                    continue
                free = [one for one in self._workers if one.ready and one.count(method) < _AT_ONCE]
                if not free:
                    break
                self._send(min(free, key=lambda one: one.count(method)), tasks.popleft())

    def _answered(self, event: _Answered) -> None:
        exceptions = self._ray.exceptions
        worker, task, error = event.worker, event.task, event.answer.exception()
        if isinstance(error, exceptions.RayError) and not isinstance(
            error, exceptions.RayTaskError
        ):
            self._lose(worker, error)
            return
        worker.running.remove(task)
        if task.method in ("hello", "load"):
            self._prepare(worker, task, event.answer)
        elif task.result.set_running_or_notify_cancel():
            if error is None:
                task.result.set_result(event.answer.result())
            else:
                task.result.set_exception(getattr(error, "cause", None) or error)

    def _prepare(self, worker: _Worker, task: _Task, answer: "Future[Any]") -> None:
        """Take the next step with a worker that has started, or has loaded the model."""
        if (error := answer.exception()) is not None:
            self._fail(ClusterUnavailable(self._failing(error)))
        elif task.method == "hello":
            version, extras, worker.node = answer.result()
            here = read_with_extras()
            if version != __version__:
                self._refuse(worker, f"it has gte-retrieval {version}, this machine {__version__}")
            elif extras != here:
                self._refuse(worker, f"it has other extras: {_difference(extras, here)}")
            else:
                self._send(worker, _Task("load", (self._wanted,)))
        elif isinstance(loaded := answer.result(), Refused):
            self._refuse(worker, loaded.message)
        else:
            worker.ready = True
            self._failed_starts = 0
            if not self.loaded.done():
                self.loaded.set_result(loaded)

    def _failing(self, error: BaseException) -> str:
        """Return the line for a worker that does not even start."""
        text = str(getattr(error, "cause", None) or error)
        if "ModuleNotFoundError" in text or "failed to import" in text:
            return (
                f"the nodes of the Ray cluster lack this program: pip install "
                f"'gte-retrieval[ray]=={__version__}' on each"
            )
        cause = getattr(error, "cause", None) or error
        return f"a worker on the Ray cluster can't start: {_line(cause)}"

    def _refuse(self, worker: _Worker, why: str) -> None:
        found = [node for node in self._ray.nodes() if node["NodeID"] == worker.node]
        where = found[0]["NodeManagerAddress"] if found else worker.node
        self._fail(
            ClusterUnavailable(
                f"node {where} of the Ray cluster can't embed: {why}; all nodes need the same "
                f"packages and models as this machine"
            )
        )

    def _lose(self, worker: _Worker, error: BaseException | None = None) -> None:
        """Forget a worker, and give its tasks to others."""
        if self._error is not None:
            return
        self._workers.remove(worker)
        with suppress(self._ray.exceptions.RayError):  # it is most likely dead already
            self._ray.kill(worker.handle)
        # All of them wait again before anything fails: those that wait get the error, too.
        tasks = [task for task in worker.running if task.method not in ("hello", "load")]
        for task in reversed(tasks):
            task.losses += 1
            self._waiting.setdefault(task.method, deque()).appendleft(task)
        if not worker.ready:
            self._lose_start(worker, error)
            return
        self._note(f"lost a worker; its unfinished work starts again ({len(tasks)} pieces)")
        losses = max((task.losses for task in tasks), default=0)
        if losses > _MAX_LOSSES:
            what = f"{losses} workers were lost one after the other over the same files or texts"
            self._fail(ClusterLost(_more_memory(what, error)))

    def _lose_start(self, worker: _Worker, error: BaseException | None) -> None:
        """Note the loss of a worker that had no model yet; give up if that happens each time."""
        if not worker.node and error is not None and "ModuleNotFoundError" in str(error):
            self._fail(ClusterUnavailable(self._failing(error)))
            return
        self._note("lost a worker before it had the model" + (f": {_line(error)}" if error else ""))
        # Workers that start together may be lost together, as with their node: they count once.
        if error is None or worker.round < self._round:
            return
        self._round += 1
        self._failed_starts += 1
        if self._failed_starts > _MAX_LOSSES:
            what = f"{self._failed_starts} workers were lost one after the other while starting"
            kind = ClusterLost if self.loaded.done() else ClusterUnavailable
            self._fail(kind(_more_memory(what, error)))

    def _fail(self, error: Exception) -> None:
        """Give up: all tasks have this error from now on."""
        if self._error is not None:
            return
        self._error = error
        if not self.loaded.done():
            self.loaded.set_exception(error)
        for worker in self._workers:
            for task in worker.running:
                self._give_up(task)
        for tasks in self._waiting.values():
            for task in tasks:
                self._give_up(task)

    def _give_up(self, task: _Task) -> None:
        if not task.result.done() and task.result.set_running_or_notify_cancel():
            task.result.set_exception(self._error)


def _more_memory(what: str, error: BaseException | None) -> str:
    """Return the line for workers that end again and again."""
    line = f"{what}: give them more memory, see the logs of the Ray cluster"
    return line + (f" ({_line(error)})" if error else "")


def _difference(there: frozenset[tuple[str, str]], here: frozenset[tuple[str, str]]) -> str:
    """Return which extras a node and this machine lack; see ``read_with_extras``."""
    lacking = {"it lacks": here - there, "this machine lacks": there - here}
    return ", ".join(
        f"{who} {' and '.join(sorted({extra for extra, _ in pairs}))}"
        for who, pairs in lacking.items()
        if pairs
    )


def _line(error: BaseException) -> str:
    """Return the first line of an error's text that says something, without colours."""
    text = _COLOUR.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
