"""What must be so before an index is written."""

from dataclasses import fields
from pathlib import Path

from retrieval.domain.records import ChunkSettings, IndexInfo, ModelIdentity
from retrieval.errors import ModelMismatch, NotAnIndex, StorageError
from retrieval.store.disk.tables.database import is_index, not_an_index
from retrieval.store.disk.tables.writer_lock import LOCK_NAME


def check_index(folder: Path) -> None:
    """Refuse a folder that holds no index: a writer would make one.

    Raises:
        NotAnIndex: there is none.
    """
    if not is_index(folder):
        raise not_an_index(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is neither an index nor missing or empty; nothing is changed.

    Raises:
        NotAnIndex: it holds other files, or is a file itself.
        StorageError: it can't be looked into.
    """
    if folder.exists() and not folder.is_dir():
        raise NotAnIndex(f"{folder} is a file; an index is a folder")
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"can't read {folder}: {error.strerror}") from error
    strangers = sorted(set(names) - {LOCK_NAME})
    if strangers and not is_index(folder):
        raise NotAnIndex(
            f"{folder} is not an index and not empty (it holds {strangers[0]!r}); "
            f"give --index a new or empty folder"
        )


def make_folder(folder: Path) -> None:
    """Make the folder of an index, if it is not there.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {folder}: {error.strerror}") from error


def check_same(
    folder: Path, info: IndexInfo, model: ModelIdentity, chunking: ChunkSettings
) -> None:
    """Refuse a model or settings other than those that an index was made with.

    Raises:
        ModelMismatch: which, and what to do.
    """
    if info.model.fingerprint != model.fingerprint:
        raise ModelMismatch(
            f"{folder} was made with {info.model.name} ({info.model.dtype}), not with "
            f"{model.name} ({model.dtype}): build into another folder with --index, "
            f"or leave --model and --dtype out",
            index_fingerprint=info.model.fingerprint,
            model_fingerprint=model.fingerprint,
        )
    for field in fields(ChunkSettings):
        wanted, recorded = getattr(chunking, field.name), getattr(info.chunking, field.name)
        if wanted != recorded:
            raise ModelMismatch(
                f"{folder} was made with {field.name} {recorded!r}, not {wanted!r}: build into "
                f"another folder with --index, or leave the option out"
            )
