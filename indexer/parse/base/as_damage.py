"""Libraries raise what they like at files that are not what they say; here it becomes a skip."""

from collections.abc import Iterator
from contextlib import contextmanager

from indexer.parse.base.outline import one_line
from indexer.skip import SkipDocument, SkipReason


@contextmanager
def as_damage() -> Iterator[None]:
    """Take whatever is raised for damage of the file.

    Raises:
        SkipDocument: something was raised.
        MemoryError, RecursionError: these say something else, and are left as they are.
    """
    try:
        yield
    except (SkipDocument, MemoryError, RecursionError):
        raise
    except Exception as error:
        detail = one_line(f"{type(error).__name__}: {error}")[:200]
        raise SkipDocument(SkipReason.DAMAGED, detail) from error
