"""Keep an index in step with folders: a build at first, and one whenever files have changed."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchfiles import Change
from watchfiles import watch as watch_files

from indexer.build.build import build
from indexer.build.progress import BuildProgress, SilentProgress
from indexer.build.report import BuildReport
from indexer.build.settings import BuildOptions, load_encoder
from indexer.files import sidecar
from indexer.files.discover import is_hidden
from indexer.files.ignore import IGNORE_FILES
from indexer.parse.formats import format_of
from retrieval.domain.records import IndexInfo
from retrieval.errors import InvalidArgument, RetrievalError, StorageError

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

DEBOUNCE_MS: Final = 1600
"""A build waits until nothing has changed for ``STEP_MS``, but no longer than this."""
STEP_MS: Final = 200
LOOK_AGAIN_SECONDS: Final = 300.0
"""A build looks after everything once in a while: the system may have lost a message."""
RETRY_SECONDS: Final = 5.0
"""... and sooner, after one that failed."""
_TICK_MS: Final = 500

FileChanges = set[tuple[Change, str]]


def watch(options: BuildOptions, note: Callable[[str], None]) -> Iterator[BuildReport]:
    """Build, and build again whenever files under the roots have changed.

    What can't be done now (another build has the lock, the disk is full, a root is gone) is told
    and tried again. Stopping or killing it at any moment leaves the last commit.

    Args:
        options: those of the build; the roots are folders.
        note: takes what went wrong, a line each.

    Yields:
        a report for the first build, and for each that made a new generation.

    Raises:
        InvalidArgument: a root is a file.
        RetrievalError: the first build fails, see ``indexer.build.build.build``.
        StorageError: the system can't watch that many folders.
    """
    progress, model = SilentProgress(), _Model()
    for root in options.docs:
        if root.is_file():
            raise InvalidArgument(
                f"{root} is a file; watch its folder, with --include", field="docs"
            )
    # Watched before they are read, so that what changes meanwhile is noticed.
    changes = _changes(options.docs)
    report = build(options, progress, model.load)
    yield report
    looked, failed = time.monotonic(), False
    while True:
        due = time.monotonic() - looked > (RETRY_SECONDS if failed else LOOK_AGAIN_SECONDS)
        if not (_matter(next(changes), options.docs) or due):
            continue
        looked, before = time.monotonic(), report.info
        try:
            report = build(options, progress, model.load)
        except RetrievalError as error:
            failed = True
            note(f"not in step: {' '.join(error.message.split())}; trying again")
            continue
        if failed:  # a root that was gone and is back is another folder to the system
            changes, failed = _changes(options.docs), False
        if before is None or report.info is None or report.info.generation != before.generation:
            yield report


def _changes(roots: Sequence[Path]) -> Iterator[FileChanges]:
    """Watch folders from now on; what changes is yielded, and nothing every now and then."""
    folders = [root for root in roots if root.is_dir()]
    changes = watch_files(
        *folders,
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        step=STEP_MS,
        rust_timeout=_TICK_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    try:
        first = next(changes)
    except OSError as error:
        raise StorageError(
            f"the system can't watch these folders ({error}); raise fs.inotify.max_user_watches, "
            f"or set WATCHFILES_FORCE_POLLING=1"
        ) from error
    return chain([first], changes)


def _matter(changes: FileChanges, roots: Sequence[Path]) -> bool:
    """Whether any change is one of what can be indexed, or of what says so."""
    real = [os.path.realpath(root) for root in roots]
    for change, path in changes:
        inside = next((path[len(root) :] for root in real if path.startswith(root + "/")), path)
        *folders, name = inside.strip("/").split("/")
        if any(map(is_hidden, folders)):
            continue
        if name in IGNORE_FILES or name.endswith(sidecar.SUFFIX):
            return True
        if is_hidden(name):
            continue
        # What is gone may have been a folder.
        if format_of(name) or change is Change.deleted:
            return True
        if Path(path).is_dir():
            return True
    return False


class _Model:
    """The model, loaded once."""

    def __init__(self) -> None:
        self._encoder: Encoder | None = None

    def load(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> "Encoder":
        """Load it, unless it is there and is the index's; see ``prepare.Loader``."""
        encoder = self._encoder
        if encoder is None or (
            existing and existing.model.fingerprint != encoder.identity.fingerprint
        ):
            self._encoder = encoder = load_encoder(options, existing, report, progress)
        return encoder
