"""Generate the Python stubs of the wire contract, or check that they are current.

    python proto/generate.py            # write retrieval/v1
    python proto/generate.py --check    # exit 1, naming the files, where they differ

Needs the ``dev`` dependencies: grpcio-tools for the code, mypy-protobuf for its types.
"""

import argparse
import filecmp
import os
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
REPOSITORY = PROTO_ROOT.parent
PACKAGE = Path("retrieval", "v1")
INIT = '''\
"""Stubs generated from ``proto/retrieval/v1`` by ``proto/generate.py``; not to be edited.

Importing this package before ``grpc`` keeps gRPC's own log lines off standard error. gRPC writes
one for every failed handshake, in a format of its own; its reasons are in our error messages
anyway. The variables ``GRPC_VERBOSITY`` and ``GRPC_TRACE`` turn the lines on.
"""

import os

if "GRPC_TRACE" not in os.environ:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
'''


def generate(destination: Path) -> None:
    """Write the stubs of all ``.proto`` files to ``destination / "retrieval/v1"``.

    Args:
        destination: an existing folder; stubs already there are replaced.

    Raises:
        RuntimeError: protoc refused the files; it has said why on stderr.
    """
    sources = sorted(path.relative_to(PROTO_ROOT) for path in PROTO_ROOT.rglob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={PROTO_ROOT}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--python_out={destination}",
        f"--grpc_python_out={destination}",
        f"--mypy_out=quiet:{destination}",
        f"--mypy_grpc_out=quiet:{destination}",
        *map(str, sources),
    ]
    # protoc finds the two mypy plugins on PATH, where an unactivated environment's are not.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed")
    package = destination / PACKAGE
    (package / "__init__.py").write_text(INIT, encoding="utf-8")
    for stub in package.glob("*_pb2_grpc.py*"):
        _drop_if_without_service(stub)


def _drop_if_without_service(stub: Path) -> None:
    """Delete the gRPC stub of a file that declares messages only; protoc writes one all the same.

    Args:
        stub: a ``*_pb2_grpc.py`` or ``*_pb2_grpc.pyi``.
    """
    source = PROTO_ROOT / PACKAGE / f"{stub.name.split('_pb2_grpc')[0]}.proto"
    if "\nservice " not in source.read_text(encoding="utf-8"):
        stub.unlink()


def stale_files(committed: Path, fresh: Path) -> list[str]:
    """Names of the files that differ between two folders, or are in one of them only.

    Args:
        committed: the folder with the stubs that are in use.
        fresh: a folder with stubs generated now.

    Returns:
        Sorted names; empty when the folders hold the same.
    """
    names = {path.name for folder in (committed, fresh) for path in folder.glob("*.py*")}
    _same, differing, missing = filecmp.cmpfiles(committed, fresh, sorted(names), shallow=False)
    return sorted(differing + missing)


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        stale = stale_files(REPOSITORY / PACKAGE, fresh / PACKAGE)
        if check:
            for name in stale:
                sys.stderr.write(f"error: {PACKAGE / name} is not what proto/generate.py writes\n")
            return 1 if stale else 0
        shutil.copytree(fresh / PACKAGE, REPOSITORY / PACKAGE, dirs_exist_ok=True)
        for name in stale:
            if not (fresh / PACKAGE / name).exists():
                (REPOSITORY / PACKAGE / name).unlink()
        sys.stdout.write(f"{PACKAGE}: {len(stale)} files changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
