"""Start programs by forking a process that has imported their libraries already.

Importing torch takes 1.3 s of processor time, and what a reader imports 0.12 s; the suite starts
dozens of programs and hundreds of readers. What is forked is a process of its own, with its own
arguments, environment, streams and working folder, which runs the same main program to its end.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[2]
_ISOLATION: Final = str(_ROOT / "indexer/readers/isolation.py")

_IMPORTED: Final = {
    "program": ("torch", "grpc", "faiss", "tantivy", "tokenizers", "safetensors", "sqlite_utils"),
    "reader": ("indexer.readers.process",),
}
"""What the process to fork imports. For programs that is nothing of ours, nor anything else that
reads settings from the environment when it is imported."""

_IDLE_SECONDS: Final = 20.0
"""Time without a start after which the process to fork ends: with torch it holds 150 MB."""
_MOST_BYTES: Final = 1 << 20

_parents: dict[str, socket.socket] = {}
"""Connections to the processes to fork."""
_starting: Final = Lock()


class Forked(subprocess.Popen[Any]):
    """``Popen`` for a command of this Python: ``-m MODULE``, ``-c CODE``, or an isolated reader.

    Python's other options are ignored, and ``preexec_fn`` is: signals are at their defaults anyway.
    """

    def _execute_child(  # type: ignore[override]  # noqa: PLR0917 -- as Popen calls it
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any,
        cwd: Any, env: Any, startupinfo: Any, creationflags: Any, shell: Any,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
        *_: Any,
    ) -> None:  # fmt: skip
        kind, run = _what_to_run([os.fspath(word) for word in args])
        self._status, status = os.pipe()
        streams = enumerate((p2cread, c2pwrite, errwrite))
        given = {target: target if one == -1 else one for target, one in streams}
        given |= {one: one for one in pass_fds}
        order = {
            "run": run,
            "env": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd) if cwd else os.getcwd(),  # noqa: PTH109 -- it is for JSON
            "targets": list(given),
        }
        try:
            self.pid = _fork(kind, json.dumps(order).encode(), [*given.values(), status])
        finally:
            os.close(status)
            self._close_pipe_fds(  # type: ignore[attr-defined]
                p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
            )
        self._child_created = True

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Return the process and its status as ``os.waitpid`` does: it is no child of this one."""
        seconds = 0 if wait_flags else None
        if not select.select([self._status], [], [], seconds)[0]:
            return 0, 0
        status = int(os.read(self._status, 100))
        os.close(self._status)
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def run_forked(args: Sequence[str | Path], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end as ``subprocess.run`` does, with its output as text."""
    with Forked(
        args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _what_to_run(words: list[str]) -> tuple[str, list[str]]:
    """Return the kind of process for a command, and its module or code with its arguments."""
    if _ISOLATION in words:
        return "reader", ["call", *words[words.index(_ISOLATION) + 2 :]]
    options = {"-m": "module", "-c": "code"}
    at = next(index for index, word in enumerate(words) if word in options)
    return "program", [options[words[at]], *words[at + 1 :]]


def _fork(kind: str, order: bytes, descriptors: list[int]) -> int:
    """Return the id of a new process."""
    with _starting:
        for _ in range(2):
            parent = _parents.get(kind) or _parents.setdefault(kind, _start_parent(kind))
            with suppress(OSError):
                socket.send_fds(parent, [order], descriptors)
                if answer := parent.recv(100):
                    return int(answer)
            # It has ended, because it was idle.
            _parents.pop(kind).close()
    raise RuntimeError(f"no {kind} can be forked: see above for why")


def _start_parent(kind: str) -> socket.socket:
    """Start a process to fork; it ends with the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.commands.forking", kind],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            cwd=_ROOT,
        )
    return ours


def _serve(kind: str) -> Callable[[], None] | None:
    """Fork a process for each order; return what to run in each, and None in this one."""
    for name in _IMPORTED[kind]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a forked process would copy all these pages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as orders:
        while select.select([orders], [], [], _IDLE_SECONDS)[0]:
            data, descriptors, _, _ = socket.recv_fds(orders, _MOST_BYTES, 100)
            if not data:
                break
            if os.fork() == 0:
                return _child(json.loads(data), orders, descriptors)
            for one in descriptors:
                os.close(one)
            _reap()
    _reap()
    return None


def _reap() -> None:
    """Wait for the children that have ended, which counts their processor time as this one's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _child(
    order: dict[str, Any], orders: socket.socket, descriptors: list[int]
) -> Callable[[], None]:
    """Fork the program; return what to run there, and report its end from this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if program := os.fork():
        orders.send(str(program).encode())
        os.dup2(descriptors[-1], 0)
        os.closerange(1, 1 << 16)
        os.write(0, str(os.waitpid(program, 0)[1]).encode())
        os._exit(0)
    orders.close()
    targets = order["targets"]
    free = max(targets) + 1
    moved = [_moved_up(one, free) for one in descriptors]
    for descriptor, target in zip(moved, targets, strict=False):
        os.dup2(descriptor, target, inheritable=True)
    for descriptor in moved:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["folder"])
    return lambda: _run(*order["run"])


def _moved_up(descriptor: int, lowest: int) -> int:
    """Return a copy of a descriptor that is not below a number; close the descriptor."""
    import fcntl

    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    os.close(descriptor)
    return copy


def _run(how: str, what: str, *arguments: str) -> None:
    if how == "call":
        importlib.import_module(what).main(*arguments)
        return
    # As Python sets them for -m and -c.
    sys.argv = [what if how == "module" else "-c", *arguments]
    if how == "module":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


if __name__ == "__main__":
    # Outside of ``_serve``: in the program, nothing of this is left on the stack.
    if run := _serve(sys.argv[1]):
        run()
