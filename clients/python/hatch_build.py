"""Put the client's part of the package ``retrieval`` into the wheel and the source archive."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ClientCode(BuildHookInterface):  # type: ignore[type-arg]
    """Includes the parts that ``pyproject.toml`` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the code to the files of a build."""
        if version == "editable":
            return
        # A source archive has the code beside this file; in the repository it lies at the top.
        unpacked = Path(self.root, "retrieval")
        package = unpacked if unpacked.is_dir() else Path(self.root).parents[1] / "retrieval"
        for part in self.config["parts"]:
            build_data["force_include"][str(package / part)] = f"retrieval/{part}"
