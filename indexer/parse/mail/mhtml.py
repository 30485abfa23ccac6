"""Web archives (RFC 2557): a page and its pictures in one MIME message, as browsers save it."""

import email
import email.policy
from dataclasses import replace

from indexer.parse.base.outline import title_of
from indexer.parse.mail.headers import Decoder
from indexer.parse.mail.parts import bytes_of, html_in
from indexer.parse.web.html import parse_html
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document


def parse_mhtml(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of the page in a web archive; frames and pictures are left out.

    Raises:
        SkipDocument: there is no page in it.
    """
    with parser_errors_as_damage():
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        page = html_in(message)
        if page is None:
            raise SkipDocument(SkipReason.DAMAGED, "no page in it")
        label = str(page.get_content_charset() or "")
        document = parse_html(uri, bytes_of(page), encoding, label=label)
        if document.title != title_of(uri):
            return replace(document, format="mhtml")
        subject = Decoder(encoding).header(message, "Subject")
        return replace(document, format="mhtml", title=title_of(uri, subject))
