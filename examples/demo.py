"""The whole main job in a minute: index ``docs/``, serve it, ask over gRPC, stop.

Run by ``make demo``. Everything is real: the commands a user would type, a server in a process of
its own on a free loopback port, and the gRPC client.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.client import RetrievalClient
from retrieval.commands.render import passages_as_text

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / ".demo" / "index"
LOG = ROOT / ".demo" / "server.log"
BIN = Path(sys.executable).parent

QUESTIONS = (
    "What happens to an index when the build is killed?",
    "How are long documents cut into chunks?",
    "Why does the encoder not pad its batches?",
)


def run(*command: str | Path) -> None:
    """Show a command, run it, and stop here if it fails."""
    shown = [Path(part).name if part == command[0] else str(part) for part in command]
    print("$", " ".join(shown), flush=True)
    result = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(result.returncode)


@contextmanager
def server() -> Iterator[str]:
    """Run a server over the demo's index; yield its address, and stop it cleanly at the end.

    Its log goes to ``.demo/server.log``.
    """
    command = [BIN / "retrieval", "serve", "--index", INDEX, "--listen", "127.0.0.1:0"]
    print("\n$ retrieval serve --index .demo/index --listen 127.0.0.1:0", flush=True)
    with LOG.open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        print(ready, end="", flush=True)
        match = re.search(r"127\.0\.0\.1:\d+", ready)
        if match is None:
            sys.exit(f"the server did not start:\n{LOG.read_text()}")
        yield match.group()
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
        print(f"server stopped, exit code {code}")
        if code:
            sys.exit(code)


def main() -> None:
    """Build an index, serve it, ask the questions, and stop the server."""
    started = time.perf_counter()
    run(BIN / "indexer", "build", "docs", "--index", ".demo/index")
    with server() as address, RetrievalClient(address) as client:
        for question in QUESTIONS:
            results = client.search(question, k=3)
            spent = 1000 * results.timings.total
            print(f"\n? {question}  ({spent:.0f} ms on the server)\n")
            print(passages_as_text(results))
        print()
    print(f"done in {time.perf_counter() - started:.1f} s; the index stays in .demo/index")


if __name__ == "__main__":
    main()
