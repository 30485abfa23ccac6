"""Keep an index up to date with folders: build once, and again whenever files change."""

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
from indexer.build.site import ThisMachine
from indexer.files import sidecar
from indexer.files.discover import is_hidden
from indexer.files.generated import folder_by_name, generated_file
from indexer.files.ignore import IGNORE_FILES
from indexer.parse.formats import content_decides, format_of
from retrieval.domain.records import IndexInfo
from retrieval.errors import InvalidArgument, RetrievalError, StorageError
from retrieval.store import Location

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

STEP_MS: Final = 200
"""A build starts once nothing has changed for this long: an editor or a checkout writes several
files in a row."""
DEBOUNCE_MS: Final = 1600
"""A build starts after this time even if files go on changing."""
LOOK_AGAIN_SECONDS: Final = 300.0
"""Time after which everything is checked without a notification: the system may have lost one."""
RETRY_SECONDS: Final = 5.0
"""Time until a failed build is retried."""
_TICK_MS: Final = 500
"""Time between two looks at the clock while nothing changes."""

FileChanges = set[tuple[Change, str]]


def watch(options: BuildOptions, note: Callable[[str], None]) -> Iterator[BuildReport]:
    """Build, and build again whenever files under the roots have changed.

    If a later build fails, for example because another build holds the lock, the disk is full or a
    root is gone, the reason is noted and the build is retried. Stopping or killing the process at
    any moment leaves the last commit.

    Args:
        options: options of the build; the roots are folders.
        note: receives the reason of each failure, a line each.

    Yields:
        a report for the first build, and for each build that made a new generation.

    Raises:
        InvalidArgument: a root is a file.
        RetrievalError: the first build fails; see ``indexer.build.build.build``.
        StorageError: the system can't watch this many folders.
    """
    progress, site = SilentProgress(), ThisMachine(_Model().load)
    for root in options.docs:
        if root.is_file():
            raise InvalidArgument(
                f"{root} is a file; watch its folder, and name the file with --include",
                field="docs",
            )
    # Watch before the first build, so that changes during it are noticed.
    changes = _changes(options.docs)
    report = build(options, progress, site)
    yield report
    looked, failed = time.monotonic(), False
    while True:
        due = time.monotonic() - looked > (RETRY_SECONDS if failed else LOOK_AGAIN_SECONDS)
        if not (_matter(next(changes), options) or due):
            continue
        looked, before = time.monotonic(), report.info
        try:
            report = build(options, progress, site)
        except RetrievalError as error:
            failed = True
            note(f"build failed: {' '.join(error.message.split())}; retrying")
            continue
        if failed:  # a root that was gone and came back has to be watched again
            changes, failed = _changes(options.docs), False
        if before is None or report.info is None or report.info.generation != before.generation:
            yield report


def _changes(roots: Sequence[Path]) -> Iterator[FileChanges]:
    """Watch folders from now on; yield their changes, and an empty set every ``_TICK_MS``."""
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
            f"the system can't watch these folders ({error}); increase "
            f"fs.inotify.max_user_watches, or set WATCHFILES_FORCE_POLLING=1"
        ) from error
    return chain([first], changes)


def _matter(changes: FileChanges, options: BuildOptions) -> bool:
    """Whether any change concerns a file that can be indexed, a sidecar or an ignore file."""
    real = [os.path.realpath(root) for root in options.docs]
    place, read_as = Location.parse(options.index).on_disk, options.reading.read_as
    own = None if place is None else os.path.realpath(place)
    for change, path in changes:
        if own and (path == own or path.startswith(own + "/")):
            continue
        inside = next((path[len(root) :] for root in real if path.startswith(root + "/")), path)
        *folders, name = inside.strip("/").split("/")
        if any(map(is_hidden, folders)):
            continue
        if not options.generated and (any(map(folder_by_name, folders)) or generated_file(name)):
            continue
        if name in IGNORE_FILES or name.endswith(sidecar.SUFFIX):
            return True
        if is_hidden(name):
            continue
        # A path that is gone may have been a folder.
        if format_of(name, read_as) or content_decides(name, read_as):
            return True
        if change is Change.deleted:
            return True
        if Path(path).is_dir():
            return True
    return False


class _Model:
    """Keeps the model between builds."""

    def __init__(self) -> None:
        self._encoder: Encoder | None = None

    def load(
        self,
        options: BuildOptions,
        existing: IndexInfo | None,
        report: BuildReport,
        progress: BuildProgress,
    ) -> "Encoder":
        """Return the index's model, loading it only if it is another."""
        encoder = self._encoder
        if encoder is None or (
            existing and existing.model.fingerprint != encoder.identity.fingerprint
        ):
            self._encoder = encoder = load_encoder(options, existing, report, progress)
        return encoder
