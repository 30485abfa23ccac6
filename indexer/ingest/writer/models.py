"""The embedding models of the collections: equal ones are loaded once."""

import re
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from retrieval.domain.records import ModelIdentity
from retrieval.encoding.model_cards import DEFAULT_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.errors import InvalidArgument, ModelNotFound

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?(@[\w.-]{1,95})?")
"""The name of a known model, or a hub id, with or without a revision; never a path."""


class Models:
    """Loads models on first use; thread-safe."""

    def __init__(self, models: tuple[str, ...], device: str) -> None:
        """Load nothing yet.

        Args:
            models: names or folders to find the models of indexes among.
            device: as for ``Encoder.load``.
        """
        self._models = models
        self._device = device
        self._loaded: dict[str, Encoder] = {}
        self._loading = Lock()

    def for_index(self, identity: ModelIdentity) -> "Encoder":
        """Return the model of an index.

        Raises:
            ModelMismatch, ModelNotFound, CheckpointError: see ``load_for_one_of``.
        """
        from retrieval.encoding.encoder import load_for_one_of  # loads torch

        with self._loading:
            if identity.fingerprint not in self._loaded:
                self._loaded[identity.fingerprint] = load_for_one_of(
                    identity, self._models, device=self._device
                )
            return self._loaded[identity.fingerprint]

    def named(self, name: str) -> "Encoder":
        """Return the model of a name, if its files are on this machine.

        Args:
            name: a known name, a hub id, or one of the models given as it was given or by its own
                name; empty for the first of those, or else the default.

        Raises:
            InvalidArgument: there is no such model here.
        """
        from retrieval.encoding.encoder import Encoder

        given = self._given(name)
        wanted = given or name or DEFAULT_MODEL
        if given is None and name and (not _NAME.fullmatch(name) or Path(name).exists()):
            raise InvalidArgument(
                f"model {name[:80]!r} is no name of a model: give a registered name or a hub id",
                field="model",
            )
        with self._loading:
            try:
                encoder = Encoder.load(wanted, device=self._device)
            except ModelNotFound as error:
                raise InvalidArgument(
                    f"the server has no model {wanted!r} on its disk; load it there first",
                    field="model",
                ) from error
            return self._loaded.setdefault(encoder.identity.fingerprint, encoder)

    def _given(self, name: str) -> str | None:
        """Return which of the models given is meant; None if none of them is."""
        if not name or name in self._models:
            return name or next(iter(self._models), None)
        names = {find_model(model).name.casefold(): model for model in self._models}
        return names.get(name.casefold())
