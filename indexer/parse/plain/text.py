"""Plain text, which is taken as it is."""

from indexer.decoding.decode import decode
from indexer.parse.base.outline import plain_document
from retrieval.domain.records import Document


def parse_text(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a plain text file: one section, named after the file.

    Raises:
        SkipDocument: the data is binary.
    """
    return plain_document(uri, *decode(data, encoding))
