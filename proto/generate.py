"""Generate the Python stubs of the wire contract, or check that they are current.

    python proto/generate.py            # write retrieval/v1 and retrieval/indexer_v1
    python proto/generate.py --check    # exit 1, naming the files, where they differ

The stubs of ``indexer.v1`` are a package of ``retrieval``, because clients need them, too.

Needs the ``dev`` dependencies: grpcio-tools for the code, mypy-protobuf for its types.
"""

import argparse
import filecmp
import os
import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
REPOSITORY = PROTO_ROOT.parent
PACKAGES = {
    Path("retrieval", "v1"): Path("retrieval", "v1"),
    Path("indexer", "v1"): Path("retrieval", "indexer_v1"),
}
"""Folder of ``.proto`` files → folder of their stubs."""
INIT = '''\
"""Stubs generated from ``proto/{source}`` by ``proto/generate.py``; not to be edited.

Importing this package before ``grpc`` keeps gRPC's own log lines off standard error. gRPC writes
one for every failed handshake, in a format of its own; its reasons are in our error messages
anyway. The variables ``GRPC_VERBOSITY`` and ``GRPC_TRACE`` turn the lines on.
"""

import os

if "GRPC_TRACE" not in os.environ:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
'''


def generate(destination: Path) -> None:
    """Write the stubs of all ``.proto`` files to their packages in a folder.

    Args:
        destination: an existing folder; stubs already there are replaced.

    Raises:
        RuntimeError: protoc refused the files; it has said why on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run_protoc(Path(folder))
        for source, package in PACKAGES.items():
            _install(Path(folder) / source, source, destination / package)


def _run_protoc(destination: Path) -> None:
    """Write stubs as protoc makes them, in the folders of their ``.proto`` files."""
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


def _install(made: Path, source: Path, package: Path) -> None:
    """Copy the stubs of one folder to their package, which they import by its own name.

    protoc writes a gRPC stub for a file that declares messages only, too; it is left out.
    """
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(INIT.format(source=source.as_posix()), encoding="utf-8")
    imported, name = (".".join(path.parts) for path in (source, PACKAGES[source]))
    for stub in made.iterdir():
        proto = PROTO_ROOT / source / f"{stub.name.split('_pb2')[0]}.proto"
        has_service = "\nservice " in proto.read_text(encoding="utf-8")
        if has_service or "_pb2_grpc" not in stub.name:
            text = stub.read_text(encoding="utf-8")
            text = re.sub(rf"\b{re.escape(imported)}(?=( import|\.\w+_pb2))", name, text)
            (package / stub.name).write_text(text, encoding="utf-8")


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
        return max(_update(package, fresh, check=check) for package in PACKAGES.values())


def _update(package: Path, fresh: Path, *, check: bool) -> int:
    """Bring one package up to date, or only compare it; return the exit code."""
    stale = stale_files(REPOSITORY / package, fresh / package)
    if check:
        for name in stale:
            sys.stderr.write(f"error: {package / name} is not what proto/generate.py writes\n")
        return 1 if stale else 0
    shutil.copytree(fresh / package, REPOSITORY / package, dirs_exist_ok=True)
    for name in stale:
        if not (fresh / package / name).exists():
            (REPOSITORY / package / name).unlink()
    sys.stdout.write(f"{package}: {len(stale)} files changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
