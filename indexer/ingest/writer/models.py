"""The embedding models of the collections: equal ones are loaded once."""

import re
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from retrieval.domain.records import ModelIdentity
from retrieval.encoding.model_cards import DEFAULT_MODEL
from retrieval.errors import InvalidArgument, ModelNotFound

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?(@[\w.-]{1,95})?")
"""The name of a known model, or a hub id, with or without a revision; never a path."""


class Models:
    """Loads models on first use; thread-safe."""

    def __init__(self, model: str | None, device: str) -> None:
        """Load nothing yet.

        Args:
            model: name or folder of the indexes' model; None to find it where the indexes say.
            device: as for ``Encoder.load``.
        """
        self._model = model
        self._device = device
        self._loaded: dict[str, Encoder] = {}
        self._loading = Lock()

    def for_index(self, identity: ModelIdentity) -> "Encoder":
        """Return the model of an index.

        Raises:
            ModelMismatch, ModelNotFound, CheckpointError: see ``load_for_index``.
        """
        from retrieval.encoding.encoder import load_for_index  # loads torch

        with self._loading:
            if identity.fingerprint not in self._loaded:
                self._loaded[identity.fingerprint] = load_for_index(
                    identity, model=self._model, device=self._device
                )
            return self._loaded[identity.fingerprint]

    def named(self, name: str) -> "Encoder":
        """Return the model of a name, if its files are on this machine.

        Args:
            name: a known name or a hub id; empty for the default.

        Raises:
            InvalidArgument: there is no such model here.
        """
        from retrieval.encoding.encoder import Encoder

        wanted = name or self._model or DEFAULT_MODEL
        if name and name != self._model and (not _NAME.fullmatch(name) or Path(name).exists()):
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
