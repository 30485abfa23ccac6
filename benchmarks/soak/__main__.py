"""Run minutes of mixed load while indexes change, clients die and the server is restarted.

    python -m benchmarks.soak DATA_DIR [--minutes 10] [--reloads 20] [--kills 50] [--restarts 10]

``DATA_DIR`` is a test set in BEIR form. Every answer is checked against its first documents
(``benchmarks/soak/client.py``), beside some that change with every build. Two clients work all the
time; others are killed with SIGKILL in the middle of their requests. Restarts (SIGTERM, then the
same port again) happen in the first half, so that the second half shows how the memory of one
process grows. Exits with code 1 if an answer was wrong or a request was lost.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.common.beir import BIN, load_set
from benchmarks.common.processes import resident
from benchmarks.service.peers import free_port
from retrieval.client import RetrievalClient
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.errors import ServiceError

PASSAGES = 300
CHANGING = 20
CLIENTS = 2
VICTIMS = 2
WARM_UP_SHARE = 0.1
"""Fraction of the whole run between the last restart and the first memory measurement."""


class Server:
    """``retrieval serve`` on one port, across restarts."""

    def __init__(self, index: Path, log: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._index = index
        self._log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [str(BIN / "retrieval"), "serve", "--index", str(self._index)]
        command += ["--listen", self.address, "--reload", "0.5", "--log-level", "warning"]
        with self._log.open("a") as log:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, text=True)

    def wait(self) -> None:
        """Wait until the server answers."""
        with RetrievalClient(self.address) as client:
            while True:
                try:
                    client.server_info()
                except ServiceError:
                    time.sleep(0.2)
                else:
                    return

    def restart(self) -> None:
        """Stop the server as an operator does, and start it again."""
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        """Drain the server; it must end by itself with exit code 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        if code != 0:
            sys.exit(f"the server ended with {code}: {self._log.read_text()[-2000:]}")


class Soak:
    """The folder, the server and the clients of a run."""

    def __init__(self, folder: Path, passages: list[str], seed: int) -> None:
        self._folder = folder
        self._docs = folder / "docs"
        self._docs.mkdir()
        self._random = random.Random(seed)
        self._truth = folder / "truth.json"
        truth = {f"docs/{number}.txt": text for number, text in enumerate(passages)}
        self._truth.write_text(json.dumps(truth), encoding="utf-8")
        for uri, text in truth.items():
            (folder / uri).write_text(text, encoding="utf-8")
        self._version = 0
        self.reload()
        self.server = Server(folder / "index", folder / "server.log")
        self.server.wait()
        self._clients = [self._client(number) for number in range(CLIENTS)]
        self._victims = [self._client(100 + number) for number in range(VICTIMS)]

    def reload(self) -> None:
        """Change some documents and build a new generation for the server to notice."""
        self._version += 1
        for number in range(CHANGING):
            if self._random.random() < 0.5:
                text = f"Note {number} as it is since version {self._version} of the documents."
                (self._docs / f"note{number}.md").write_text(text, encoding="utf-8")
        command = [str(BIN / "indexer"), "build", str(self._docs)]
        command += ["--index", str(self._folder / "index"), "--model", OFFLINE_MODEL]
        command += ["--chunk-tokens", "document"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the build failed: {done.stderr}")

    def kill(self) -> None:
        """Kill a client in the middle of its work, and start another."""
        victim = self._victims.pop(0)
        victim.kill()
        victim.wait()
        self._victims.append(self._client(self._random.randrange(10**6)))

    def restart(self) -> None:
        """Restart the server while clients run, if it has come up since the last restart."""
        self.server.wait()
        self.server.restart()

    def _client(self, seed: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.soak.client"]
        command += [self.server.address, str(self._truth), str(seed)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def finish(self) -> Counter[str]:
        """Stop everything; return the results of the surviving clients."""
        seen: Counter[str] = Counter()
        for client in (*self._clients, *self._victims):
            output, _ = client.communicate("stop\n", timeout=120)
            seen.update(json.loads(output))
        self.server.stop()
        return seen

    @property
    def rss(self) -> float:
        """Return the server's resident memory in megabytes."""
        return resident(self.server.process.pid)


def main() -> None:
    """Run the load, and exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a BEIR-form set")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    passages = list(dict.fromkeys(load_set(arguments.data).corpus.values()))[:PASSAGES]
    seconds = arguments.minutes * 60
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), passages, arguments.seed)
        events: list[tuple[float, Callable[[], None]]] = [
            *((moments.uniform(0, seconds), soak.reload) for _ in range(arguments.reloads)),
            *((moments.uniform(0, seconds), soak.kill) for _ in range(arguments.kills)),
            *((moments.uniform(0, seconds / 2), soak.restart) for _ in range(arguments.restarts)),
        ]
        started = time.monotonic()
        warm_at, warm = seconds * (0.5 + WARM_UP_SHARE), 0.0
        for moment, event in sorted([*events, (warm_at, lambda: None)], key=lambda pair: pair[0]):
            time.sleep(max(0.0, started + moment - time.monotonic()))
            event()
            if moment == warm_at:
                warm = soak.rss
        time.sleep(max(0.0, started + seconds - time.monotonic()))
        end = soak.rss
        seen = soak.finish()
        took = time.monotonic() - started
    print(
        f"{took:.0f} s, {arguments.reloads} reloads, {arguments.kills} clients killed, "
        f"{arguments.restarts} restarts: {seen['answered']} answered, {seen['wrong']} wrong, "
        f"{seen['lost']} lost; tried again: "
        f"{ {key: seen[key] for key in seen if key.isupper()} }; "
        f"resident {warm:.0f} → {end:.0f} MB ({end / warm - 1:+.1%})"
    )
    if seen["wrong"] or seen["lost"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
