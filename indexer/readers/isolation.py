"""Start a process that runs this program's code and no other, whatever files lie around it.

``python -m`` looks for modules in the current folder first, then in the folders of ``PYTHONPATH``
and in the user's site-packages, so a ``json.py`` beside the documents would run. Python's isolated
mode (``-I``) searches none of these. This file is run in that mode, by its path. It imports the
program's packages from the folders that the parent process imports them from (they need not be
installed), and everything else from Python's own folders.

Folders that the parent imports its libraries from, such as the user's site-packages if the program
is installed there, are searched last, so a module in them can't replace any other.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("retrieval", "indexer")
_LIBRARIES: Final = ("lxml", "numpy", "pathspec", "selectolax", "tokenizers")
"""Libraries that readers use; the folders of these hold the others too."""


def isolated_command(module: str, *arguments: str) -> list[str]:
    """Return the command that calls ``module.main(*arguments)`` in an isolated process.

    Args:
        module: a module of this program.
        arguments: arguments of its ``main``.
    """
    # Isolated mode ignores Python's environment variables, so pass on what they asked for.
    options = ["-I", "-X", f"utf8={sys.flags.utf8_mode}"]
    if sys.flags.dont_write_bytecode:
        options.append("-B")
    if sys.pycache_prefix is not None:
        options += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    folders = {name: _folder_of(name) for name in (*_PACKAGES, *_LIBRARIES)}
    found = {name: folder for name, folder in folders.items() if folder}
    packages = {name: found[name] for name in _PACKAGES}
    places = dict.fromkeys(str(Path(folder).parent) for folder in found.values())
    setting = json.dumps([packages, list(places)])
    return [sys.executable, *options, __file__, setting, module, *arguments]


def _folder_of(package: str) -> str | None:
    """Return the absolute folder that this process imports a package from; None if not found."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return str(Path(spec.submodule_search_locations[0]).absolute())


def _import_packages(packages: Mapping[str, str], places: Sequence[str]) -> None:
    """Import packages from given folders, and search ``places`` last for other modules."""
    sys.path += [place for place in places if place not in sys.path]
    for name, folder in packages.items():
        spec = importlib.util.spec_from_file_location(
            name, Path(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"no package {name!r} in {folder}", name=name)
        sys.modules[name] = package = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)


def _main(setting: str, module: str, *arguments: str) -> None:
    """Run the command line of ``isolated_command``."""
    _import_packages(*json.loads(setting))
    importlib.import_module(module).main(*arguments)


if __name__ == "__main__":
    _main(*sys.argv[1:])
