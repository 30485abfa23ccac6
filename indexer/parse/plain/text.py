"""Plain text, which is taken as it is."""

from indexer.decoding.decode import decode
from indexer.parse.base.outline import sections_of, title_of
from retrieval.domain.records import Document


def parse_text(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a plain text file: one section, named after the file.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    return Document(
        uri=uri,
        title=title_of(uri),
        format="text",
        text=text,
        sections=sections_of(()),
        encoding=encoding,
    )
