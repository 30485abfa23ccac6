"""The embedding models of a server: each is loaded once, whoever uses it.

Collections use the models that their indexes were made with. ``retrieval serve --model`` adds
models that no collection needs to use. Nothing here may be part of a reference cycle: see
``open_collections``.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from retrieval.domain.records import ModelIdentity, TextKind
from retrieval.domain.wording import did_you_mean
from retrieval.encoding.model_cards import find_card
from retrieval.errors import InvalidArgument, UnknownModel
from retrieval.search import EmbeddedText
from retrieval.service.config import ServiceConfig
from retrieval.service.scheduling.batcher import Batcher

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder
    from retrieval.encoding.tokenizer import Tokenizer

_MAX_NAME = 100
"""Characters of an unknown name that its error repeats."""


class LoadedModel:
    """A model, in one number format for queries and one for passages.

    Passages are embedded in the format of the index, so that their vectors are those of a build. If
    queries use another format, the model is loaded a second time when the first passage comes.
    """

    def __init__(
        self, for_queries: "Encoder", load_for_passages: Callable[[], "Encoder"], batcher: Batcher
    ) -> None:
        """Take over the model for queries.

        Args:
            for_queries: has the identity of the model for passages.
            load_for_passages: loads the model in the format of the passages.
            batcher: runs the model.
        """
        self.for_queries = for_queries
        self.loaded_at = datetime.now(UTC)
        _ = for_queries.query_on_one_core  # measure it now, while nobody waits
        same = for_queries.dtype == for_queries.identity.dtype
        self._for_passages = for_queries if same else None
        self._load_for_passages = load_for_passages
        self._loading = threading.Lock()
        self._batcher = batcher

    @property
    def identity(self) -> ModelIdentity:
        """The model, with the number format of its passages."""
        return self.for_queries.identity

    @property
    def tokenizer(self) -> "Tokenizer":
        """The model's tokenizer; the same for queries and passages."""
        return self.for_queries.tokenizer

    async def embed(self, texts: Sequence[str], kind: TextKind) -> list[EmbeddedText]:
        """Embed texts; see ``Batcher.embed``."""
        encoder = self.for_queries if kind == "query" else self._for_passages
        if encoder is None:
            encoder = await asyncio.to_thread(self._loaded_for_passages)
        return await self._batcher.embed(encoder, texts, kind)

    async def embed_queries(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Embed texts as queries."""
        return await self.embed(texts, "query")

    def _loaded_for_passages(self) -> "Encoder":
        """Return the model for passages, loading it the first time; blocks."""
        with self._loading:
            if self._for_passages is None:
                self._for_passages = self._load_for_passages()
            return self._for_passages


class OfferedModel(NamedTuple):
    """A model, and what a caller knows of it."""

    model: LoadedModel
    names: tuple[str, ...]
    """What it can be called besides its fingerprint."""
    collections: tuple[str, ...]
    """Own names of the collections that use it and that the caller sees."""

    def is_called(self, name: str) -> bool:
        """Return whether a name is one of its names, in any case, or its fingerprint."""
        wanted = name.casefold()
        known = (*self.names, self.model.identity.fingerprint)
        return wanted in (each.casefold() for each in known)


class ModelUser(NamedTuple):
    """A collection and its model."""

    collection: str
    """Its own name."""
    recorded: ModelIdentity
    """The model as its index records it, perhaps under another name."""
    model: LoadedModel


class Models:
    """The models that are loaded, by their fingerprints; thread-safe."""

    def __init__(self, config: ServiceConfig, batcher: Batcher) -> None:
        """Load nothing yet.

        Args:
            config: names the models to serve, and their number format.
            batcher: runs all models.
        """
        self._config = config
        self._batcher = batcher
        self._loaded: dict[str, LoadedModel] = {}
        self._given: dict[str, list[str]] = {}
        """Names under which the models to serve were given, by fingerprint."""
        self._loading = threading.Lock()

    @property
    def given(self) -> list[LoadedModel]:
        """The models that the server was started with, in the order of the command line."""
        return [self._loaded[fingerprint] for fingerprint in self._given]

    def load_given(self) -> None:
        """Load the models that the server was started with; blocks.

        Raises:
            InvalidArgument: two of them have one name.
            RetrievalError: see ``retrieval.encoding.encoder.load_by_name``.
        """
        with self._loading:
            for name in self._config.models:
                model = self._load_given(name)
                self._given.setdefault(model.identity.fingerprint, []).append(name)
        for number, model in enumerate(self.given):
            for other in self.given[:number]:
                if other.identity.name.casefold() == model.identity.name.casefold():
                    raise InvalidArgument(
                        f"two models given with --model are called {model.identity.name!r}, and "
                        "requests could not tell them apart: leave one out, or give a copy of it "
                        "in a folder of another name",
                        field="models",
                    )

    def for_index(self, identity: ModelIdentity) -> LoadedModel:
        """Return the model that an index was made with; blocks while it is loaded.

        Raises:
            RetrievalError: see ``retrieval.encoding.encoder.load_for_one_of``.
        """
        with self._loading:  # collections are reloaded side by side, and may share it
            model = self._loaded.get(identity.fingerprint)
            if model is None:
                model = self._loaded[identity.fingerprint] = self._load_for_index(identity)
            return model

    def keep(self, fingerprints: Iterable[str]) -> None:
        """Forget all models but those of some fingerprints, and those that were given."""
        for fingerprint in set(self._loaded) - {*fingerprints, *self._given}:
            del self._loaded[fingerprint]

    def offered(self, users: Sequence["ModelUser"]) -> list[OfferedModel]:
        """Return the models that were given, then those of some collections.

        Args:
            users: the collections that a caller sees, sorted.
        """
        models = {model.identity.fingerprint: model for model in self.given}
        models |= {user.model.identity.fingerprint: user.model for user in users}
        offered = []
        for fingerprint, model in models.items():
            its = [user for user in users if user.model.identity.fingerprint == fingerprint]
            identities = [model.identity, *(user.recorded for user in its)]
            names = _names_of(identities, self._given.get(fingerprint, ()))
            offered.append(OfferedModel(model, names, tuple(user.collection for user in its)))
        return offered

    def find(self, name: str, offered: Sequence[OfferedModel]) -> LoadedModel:
        """Return the model of a name; one that was given takes precedence.

        Args:
            name: in upper or lower case, or a fingerprint.
            offered: the models that the caller may use.

        Raises:
            UnknownModel: there is none.
            InvalidArgument: several collections have different models of that name.
        """
        found = [one for one in offered if one.is_called(name)]
        if not found:
            names = list(dict.fromkeys(one.names[0] for one in offered))
            hint = did_you_mean(name, names)
            known = ", ".join(names) or "none"
            raise UnknownModel(
                f"no model {name[:_MAX_NAME]!r}"
                + (f"{hint} This server has: {known}" if hint else f"; this server has: {known}"),
                models=", ".join(names),
            )
        first = found[0].model
        if len(found) > 1 and first.identity.fingerprint not in self._given:
            users = ", ".join(one.collections[0] for one in found)
            raise InvalidArgument(
                f"collections {users} have different models that are called {first.identity.name}: "
                "name the collection, or give the model's fingerprint",
                field="model",
            )
        return first

    def _load_given(self, name: str) -> LoadedModel:
        from retrieval.encoding.encoder import Encoder, load_by_name  # loads torch

        device = self._config.device
        encoder = load_by_name(name, device=device, dtype=self._config.query_dtype)

        def load_for_passages() -> Encoder:
            return Encoder.load(name, device=device)

        return self._loaded.setdefault(
            encoder.identity.fingerprint, LoadedModel(encoder, load_for_passages, self._batcher)
        )

    def _load_for_index(self, identity: ModelIdentity) -> LoadedModel:
        # Loads torch, which takes seconds: the error for a mistyped folder comes before that.
        from retrieval.encoding.encoder import Encoder, load_for_one_of

        models, device = self._config.models, self._config.device

        def load_for_passages() -> Encoder:
            return load_for_one_of(identity, models, device=device)

        encoder = load_for_one_of(
            identity, models, device=device, dtype=self._config.query_dtype, workload="latency"
        )
        return LoadedModel(encoder, load_for_passages, self._batcher)


def _names_of(identities: Iterable[ModelIdentity], given: Iterable[str]) -> tuple[str, ...]:
    """Return what users know a model by: its name, its hub id, and what the server was told.

    Paths stay with the server, apart from the folder's name.
    """
    names: dict[str, str] = {}
    for identity in identities:
        card = find_card(identity.name)
        on_hub = identity.location if identity.source == "hub" else ""
        told = () if identity.source == "folder" else given
        for name in (identity.name, card.hub_id if card else "", on_hub, *told):
            if name:
                names.setdefault(name.casefold(), name)
    return tuple(names.values())
