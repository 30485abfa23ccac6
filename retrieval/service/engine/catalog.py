"""The collections of a server: what each holds, and its newest generation."""

from typing import NamedTuple

from retrieval.domain.records import IndexInfo
from retrieval.domain.search_options import MAX_K
from retrieval.service.collections.open_collections import Collections
from retrieval.service.engine.bounds import DEFAULT_PAGE_SIZE
from retrieval.service.engine.calls import Call
from retrieval.service.page_tokens import PageScope, page_size


class CollectionPage(NamedTuple):
    """Some collections, by name."""

    collections: list[tuple[str, IndexInfo]]
    next_page_token: str


class Reloaded(NamedTuple):
    """A collection after a reload."""

    info: IndexInfo
    previous_generation: int
    """0 if the collection could not be opened before."""


class Catalog:
    """Describes, lists and reloads collections."""

    def __init__(self, collections: Collections) -> None:
        """Answer from these."""
        self._collections = collections

    def get(self, call: Call, name: str) -> IndexInfo:
        """Return what a collection holds.

        Raises:
            RetrievalError: see ``Collections.use``.
        """
        call.begin("read")
        with self._collections.use(name, call.caller) as collection:
            return collection.info

    def page(self, call: Call, size: int = 0, page_token: str = "") -> CollectionPage:
        """Return a page of the collections that the caller may see.

        Args:
            call: who asks.
            size: of the page; 0 means ``DEFAULT_PAGE_SIZE``.
            page_token: empty for the first page.

        Raises:
            InvalidArgument: the size is out of range, or the token is of another request.
        """
        call.begin("read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        scope = PageScope(b"ListCollections")
        after = scope.key(page_token)
        names = [name for name in self._collections.visible(call.caller) if name > after]
        page = names[:size]
        infos = [(name, self.get(call, name)) for name in page]
        return CollectionPage(infos, scope.token_after(page[-1]) if len(names) > size else "")

    async def reload(self, call: Call, name: str) -> Reloaded:
        """Answer from the newest generation of a collection from now on.

        Raises:
            RetrievalError: the index or its model can't be used; the collection is as it was.
        """
        call.begin("reload")
        self._collections.check(name, call.caller)
        previous = self._collections.generation(name)
        await self._collections.reload(name)
        with self._collections.use(name, call.caller) as collection:
            return Reloaded(collection.info, previous)
