"""Put the pages of a web site into a collection, and find them a second later.

::

    retrieval serve --data ./collections
    retrieval collection create site
    python examples/crawl.py https://docs.example.org/ --collection site

Follows links to pages below the first one, in their order, within robots.txt. Run it again to
follow changes: pages that have not changed cost no embedding, and pages that the site no longer has
are deleted.
"""

import argparse
import sys
import urllib.request
from collections import deque
from collections.abc import Iterator
from html.parser import HTMLParser
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.parse import urldefrag, urljoin
from urllib.robotparser import RobotFileParser

from retrieval.client import DEFAULT_TARGET, Put, RetrievalClient

MAX_PAGE_BYTES = 10 << 20
AGENT = "gte-retrieval-example"


class Links(HTMLParser):
    """The targets of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the target of a link."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def pages(start: str, known: set[str], gone: set[str], limit: int) -> Iterator[Put]:
    """Yield a site's pages as they are fetched.

    Args:
        start: address of the first page; all others begin with it.
        known: addresses of pages that were put before.
        gone: takes the addresses of pages that the site no longer has.
        limit: maximum number of pages.
    """
    robots = RobotFileParser(urljoin(start, "/robots.txt"))
    robots.read()
    queue, seen = deque([start, *(known - {start})]), {start, *known}
    while queue and limit:
        address = queue.popleft()
        if not robots.can_fetch(AGENT, address):
            continue
        request = urllib.request.Request(address, headers={"User-Agent": AGENT})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                content = response.read(MAX_PAGE_BYTES)
                media_type = response.headers.get("Content-Type", "")
        except OSError as error:
            if isinstance(error, HTTPError) and error.code in (
                HTTPStatus.NOT_FOUND,
                HTTPStatus.GONE,
            ):
                gone.add(address)
            print(f"can't fetch {address}: {error}", file=sys.stderr)
            continue
        limit -= 1
        yield Put(address, data=content, media_type=media_type, metadata={"site": start})
        if media_type.startswith("text/html"):
            links = Links()
            links.feed(content.decode("utf-8", "replace"))
            for link in links.found:
                target = urldefrag(urljoin(address, link)).url
                if target.startswith(start) and target not in seen:
                    seen.add(target)
                    queue.append(target)


def crawl(client: RetrievalClient, start: str, collection: str, limit: int) -> int:
    """Put a site's pages, delete those that are gone, and return the number of failures."""
    uris = (document.uri for document in client.documents(collection))
    known = {uri for uri in uris if uri.startswith(start)}
    gone: set[str] = set()
    outcomes = client.put_many(pages(start, known, gone, limit), collection=collection)
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"can't put {outcome.uri}: {outcome.error}", file=sys.stderr)
    for uri in gone & known:
        client.delete(uri, collection=collection)
    print(f"{outcomes.progress}\n{len(gone & known)} pages deleted")
    return outcomes.progress.failed


def main() -> None:
    """Crawl as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("start", help="address of the first page")
    parser.add_argument("--target", default=DEFAULT_TARGET)
    parser.add_argument("--collection", default="default")
    parser.add_argument("--limit", type=int, default=1000, help="maximum number of pages")
    options = parser.parse_args()
    with RetrievalClient(options.target) as client:
        sys.exit(crawl(client, options.start, options.collection, options.limit) > 0)


if __name__ == "__main__":
    main()
