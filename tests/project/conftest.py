"""The client's distribution, built once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def client_built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive of the client, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("client")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        [*command, str(ROOT / "clients/python")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))
