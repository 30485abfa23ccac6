"""``retrieval proto``: write the contract of the wire, for clients in other languages."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

import retrieval
from retrieval.domain.wording import counted
from retrieval.errors import StorageError

_EXAMPLES = (
    "\b\nExamples:\n"
    "  retrieval proto ./proto\n"
    "  protoc -I ./proto --java_out=src proto/retrieval/v1/*.proto\n"
)
_PACKAGE: Final = Path(retrieval.__file__).resolve().parent
_SOURCES: Final = (_PACKAGE / "protos", _PACKAGE.parent / "proto")
"""Where the files are: in an installed wheel, and in the repository."""
_ERRORS: Final = ("error_details", "status")
"""Files of ``google/rpc`` that describe the details of errors."""


@click.command(epilog=_EXAMPLES)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def proto(folder: Path) -> int:
    """Write the .proto files of the services to a folder.

    The folder is made if need be, and files of the same name are replaced. It also gets the files
    of google/rpc that describe the details of errors. What they import of google/protobuf comes
    with every protoc.
    """
    contract = contract_files()
    try:
        for name, source in contract.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            click.echo(target)
    except OSError as error:
        raise StorageError(f"can't write {error.filename}: {error.strerror}") from error
    click.echo(f"note: wrote {counted(len(contract), 'file')} to {folder}", err=True)
    return 0


def contract_files() -> dict[str, Path]:
    """Return where the files of the contract are, by their names as ``import`` gives them."""
    root = next(source for source in _SOURCES if source.is_dir())
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.proto"))}
    spec = find_spec("google.rpc")
    locations = spec.submodule_search_locations if spec else None
    for name in _ERRORS:
        file = f"{name}.proto"
        found = (Path(location, file) for location in locations or ())
        files |= {f"google/rpc/{file}": path for path in found if path.is_file()}
    return files
