"""Open files whose name tells no format, as far as it takes to see whether they can be read."""

from collections.abc import Callable
from dataclasses import replace

from indexer.files.discover import Discovery
from indexer.parse.base.unknown import SNIFFED_BYTES, looks_readable
from indexer.parse.formats import extension_of
from indexer.skip import SkipReason
from retrieval.domain.records import Skipped, SourceFile


def without_binaries(discovery: Discovery, is_indexed: Callable[[SourceFile], bool]) -> Discovery:
    """Return what was found without files that are neither text nor documents, which are skipped.

    At most ``SNIFFED_BYTES`` of a file are read, and none of a file that is indexed already. A
    file that can't be opened stays: its reader says why.

    Args:
        discovery: the files found.
        is_indexed: whether the index has a file as it is now.
    """
    binaries = {
        file.uri: file
        for file in discovery.files
        if file.uri in discovery.unsure and not is_indexed(file) and not _may_be_read(file)
    }
    skipped = [
        Skipped(file.uri, file.root, SkipReason.UNSUPPORTED, extension_of(file.uri))
        for file in binaries.values()
    ]
    return replace(
        discovery,
        files=tuple(file for file in discovery.files if file.uri not in binaries),
        skipped=tuple(sorted((*discovery.skipped, *skipped), key=lambda skip: skip.uri)),
        unsure=frozenset(),
    )


def _may_be_read(source: SourceFile) -> bool:
    try:
        with source.path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
    except OSError:
        return True
    return looks_readable(source.uri, head)
