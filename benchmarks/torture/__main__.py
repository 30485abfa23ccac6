"""Kill builds at random moments, break files and fill the disk: is anything ever lost?

    python -m benchmarks.torture [--kills 200] [--together 100] [--flips 200] [--flushes 6]
                                 [--disks 5] [--seed N]

Works on a small folder of documents with a tiny real model, so that a build takes a fraction of a
second and kills hit all its parts. Each round changes documents at random (added, changed, removed,
renamed), starts a build, a removal or a compaction in a process of its own, and kills it with
SIGKILL after a random time. After every kill the index must verify, and committed texts must not be
embedded again. At the end the index must equal one that was built undisturbed.

Before that, a build and a service that puts documents write to another index at the same time, and
both are killed (``benchmarks.torture.together``).

Then copies of the index get flipped bits and lose their ends. Opening and searching a copy must
give the same answers as before or name the damaged file, and never crash. Finally, a build on a
full disk (a small tmpfs, if one can be mounted), and one on a disk that refuses to flush, must
leave the last commit intact.
"""

import argparse
import ctypes
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.torture.place import Lost, Place

ROOT = Path(__file__).resolve().parents[2]
REFUSED = 3
"""Exit code of a worker that ended with one of the project's own errors."""


class Worker:
    """Process that runs one task after another (``benchmarks.torture.worker``)."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.torture.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(self, task: str, **arguments: object) -> None:
        """Start a task without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return the result of the task; None if the worker ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def ask(self, task: str, **arguments: object) -> Any:
        """Run a task that must succeed."""
        self.start(task, **arguments)
        answer = self.answer()
        if answer is None:
            raise Lost(f"{task} {arguments}: {self.end()}")
        return answer

    def end(self, *, kill: bool = False) -> tuple[int, str]:
        """Wait; return the exit code (negative for a signal) and the end of the output."""
        if kill:
            self.process.kill()
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said[-500:].strip()


def kill_builds(place: Place, kills: int) -> None:
    """Run rounds of change, start and kill; then compare with an undisturbed build from nothing."""
    first = Worker(place.folder)
    first.ask("ready")
    started = time.perf_counter()
    first.ask("build")
    whole = time.perf_counter() - started
    first.end()
    ended, killed, commits, generation = Counter[str](), 0, 0, 0
    coming = Worker(place.folder)
    while killed < kills:
        worker, coming = coming, Worker(place.folder)
        state = worker.ask("check")
        if state["problems"] or state["generation"] < generation:
            raise Lost(str(state))
        commits += state["generation"] - generation
        generation = state["generation"]
        place.embedded()
        place.change()
        task = place.chance.choices(["build", "remove", "compact"], [6, 1, 1])[0]
        worker.start(task, choice=place.chance.random())
        time.sleep(place.chance.uniform(0.0, 1.2 * whole))
        code, said = worker.end(kill=True)
        if code not in (-9, 0, REFUSED):
            raise Lost(f"{task}: exit {code}: {said}")
        killed += code == -9
        ended[task] += 1
        again = place.embedded() & set(state["keys"])
        if again:
            raise Lost(f"{len(again)} texts were embedded again by {task}")
    state = coming.ask("check")
    if state["problems"] or state["generation"] < generation:
        raise Lost(str(state))
    coming.ask("build")
    coming.ask("build", index=str(place.folder / "fresh"))
    coming.ask("compare", index=str(place.folder / "fresh"))
    coming.end()
    print(
        f"{killed} kills ({', '.join(f'{count} {task}' for task, count in ended.items())}), "
        f"{commits} commits: 0 lost, 0 damaged, 0 texts embedded again; "
        f"the end equals an undisturbed build",
        flush=True,
    )


def kill_together(place: Place, kills: int, seed: int) -> None:
    """Kill a build and a service that write to one index; see ``benchmarks.torture.together``."""
    module = "benchmarks.torture.together"
    command = [sys.executable, "-m", module, str(place.folder), str(kills), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Lost(done.stderr[-2000:])
    print(done.stdout, end="", flush=True)


def break_files(place: Place, flips: int) -> None:
    """Flip bits, cut or remove files; expect the same answer or a named file, never a crash."""
    worker = Worker(place.folder)
    expected = worker.ask("answer")
    seen = Counter[str]()
    for number in range(flips):
        broken = place.folder / "broken"
        shutil.copytree(place.index, broken)
        path = place.chance.choice(
            [p for p in sorted(broken.iterdir()) if p.is_file() and p.stat().st_size]
        )
        kind = ("flip", "flip", "cut", "remove")[number % 4]
        data = bytearray(path.read_bytes())
        if kind == "flip":
            data[place.chance.randrange(len(data))] ^= 1 << place.chance.randrange(8)
        path.write_bytes(data[: place.chance.randrange(len(data))] if kind == "cut" else data)
        if kind == "remove":
            path.unlink()
        # The worker continues after a refusal; a crash ends it and this run.
        found = worker.ask("answer", index=str(broken))
        if "error" not in found and found != expected:
            raise Lost(f"{path.name} after {kind}: other answers, and no error")
        seen["refused" if "error" in found else "same answers"] += 1
        shutil.rmtree(broken)
    worker.end()
    print(f"{flips} broken files: {dict(seen)}, no crash, no wrong answer", flush=True)


def refuse_flushes(place: Place, flushes: int) -> None:
    """Make the disk refuse to flush (EIO) at each of the first calls in turn."""
    refused = 0
    for call in range(1, flushes + 1):
        place.change()
        worker = Worker(place.folder)
        before = worker.ask("check")["generation"]
        worker.start("build", fail_flush=call)
        code, said = worker.end()
        if code not in (0, REFUSED):
            raise Lost(f"refused flush {call}: exit {code}: {said}")
        refused += code == REFUSED
        worker = Worker(place.folder)
        state = worker.ask("check")
        if state["problems"] or state["generation"] < before:
            raise Lost(str(state))
        worker.ask("build")
        worker.end()
    print(f"{refused} builds failed by a refused flush; the next build went on", flush=True)


def fill_disk(place: Place, disks: int) -> None:
    """Build on disks of several sizes, all too small."""
    failed = 0
    for kilobytes in (128, 256, 512, 64, 384)[:disks]:
        with small_disk(place.folder / "disk", kilobytes) as disk:
            if disk is None:
                print("full disk: not tried, as no tmpfs can be mounted here")
                return
            worker = Worker(place.folder)
            worker.start("build", index=str(disk / "index"))
            code, said = worker.end()
            if code not in (0, REFUSED):
                raise Lost(f"a full disk of {kilobytes} KiB: exit {code}: {said}")
            failed += code == REFUSED
            worker = Worker(place.folder)
            state = worker.ask("check", index=str(disk / "index"))
            if state["problems"]:
                raise Lost(str(state))
            worker.end()
    print(f"{failed} builds failed on a full disk; each left a whole index, or none", flush=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """Mount a tmpfs of a size; yield None if this user may not mount one."""
    folder.mkdir(exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={kilobytes}k".encode()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options) != 0:
        yield None
        return
    try:
        yield folder
    finally:
        libc.umount2(str(folder).encode(), 2)


def main() -> None:
    """Run all parts and print their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--together", type=int, default=100)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--flushes", type=int, default=6)
    parser.add_argument("--disks", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name), random.Random(arguments.seed))
        kill_together(place, arguments.together, arguments.seed)
        kill_builds(place, arguments.kills)
        break_files(place, arguments.flips)
        refuse_flushes(place, arguments.flushes)
        fill_disk(place, arguments.disks)


if __name__ == "__main__":
    main()
