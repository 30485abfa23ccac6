"""Files and folders that programs make from others: left out unless the user asks for all files.

A name alone decides only where it plainly means one thing, such as ``node_modules``. Other folders,
such as ``build``, are left out if a file beside them belongs to the program that writes them.
"""

import os
import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

_FOLDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "__pycache__": "compiled by Python",
        "bower_components": "packages of Bower",
        "elm-stuff": "packages of Elm",
        "node_modules": "packages of npm",
        "site-packages": "packages of Python",
    }
)
"""Names of folders that mean one thing."""
_PATTERNS: Final = (("*.egg-info", "written by setuptools"), ("*.dist-info", "written by pip"))
"""Patterns of such names."""

_INSIDE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pyvenv.cfg": "a virtual environment",
        "CACHEDIR.TAG": "a cache",
        "CMakeCache.txt": "built by CMake",
    }
)
"""Files in a folder that say what it is; for ``CACHEDIR.TAG`` see https://bford.info/cachedir."""

_PYTHON: Final = ("pyproject.toml", "setup.cfg", "setup.py")
_GRADLE: Final = ("build.gradle", "build.gradle.kts")
_DOTNET: Final = ("*.csproj", "*.fsproj", "*.vbproj")
_BUILT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "DerivedData": ("*.xcodeproj", "*.xcworkspace"),
        "Pods": ("Podfile",),
        "_build": ("conf.py", "mix.exs", "dune-project", "make.bat"),
        "_site": ("_config.yml",),
        "bin": _DOTNET,
        "build": (
            *("package.json", "CMakeLists.txt", "meson.build", "pubspec.yaml"),
            *_PYTHON,
            *_GRADLE,
        ),
        "coverage": ("package.json",),
        "deps": ("mix.exs",),
        "dist": ("package.json", *_PYTHON),
        "dist-newstyle": ("*.cabal", "cabal.project"),
        "htmlcov": _PYTHON,
        "obj": _DOTNET,
        "out": ("next.config.js", "next.config.mjs", "next.config.ts"),
        "site": ("mkdocs.yml",),
        "storybook-static": ("package.json",),
        "target": ("Cargo.toml", "pom.xml", "build.sbt", "project.clj"),
        "vendor": ("composer.json", "go.mod", "Gemfile"),
        "zig-out": ("build.zig",),
    }
)
"""Names of folders to the names of the files beside them that tell who writes them."""

_LOCK_FILES: Final = frozenset(
    {
        *("Cargo.lock", "Gemfile.lock", "Package.resolved", "Pipfile.lock", "Podfile.lock"),
        *("bun.lock", "bun.lockb", "composer.lock", "deno.lock", "flake.lock", "go.sum"),
        *("gradle.lockfile", "mix.lock", "npm-shrinkwrap.json", "package-lock.json"),
        *("packages.lock.json", "pdm.lock", "pixi.lock", "pnpm-lock.yaml", "poetry.lock"),
        *("pubspec.lock", "pylock.toml", "uv.lock", "yarn.lock", "conda-lock.yml", "buf.lock"),
    }
)
_MINIFIED: Final = re.compile(
    r".[.-]min\.(?:[cm]?js|css)$|.\.(?:bundle|chunk)\.[cm]?js$|.\.tsbuildinfo$"
)
_SOURCE_MAP: Final = re.compile(r".\.(?:[cm]?js|css|d\.[cm]?ts)\.map$")


def generated_folder(name: str, siblings: Collection[str], real: str) -> str:
    """Return what writes a folder; empty if nothing is known to.

    Args:
        name: name of the folder.
        siblings: names of the entries of the folder that it is in.
        real: path of the folder.
    """
    if what := folder_by_name(name):
        return what
    for marker in _BUILT.get(name, ()):
        if beside := _find(marker, siblings):
            return f"made by the project of {beside}"
    return next(
        (what for marker, what in _INSIDE.items() if os.path.lexists(f"{real}/{marker}")), ""
    )


def folder_by_name(name: str) -> str:
    """Return what writes a folder of this name anywhere; empty if nothing is known to."""
    if name in _FOLDERS:
        return _FOLDERS[name]
    return next((what for pattern, what in _PATTERNS if fnmatchcase(name, pattern)), "")


def generated_file(name: str) -> str:
    """Return what kind of generated file a name means; empty for none."""
    if name in _LOCK_FILES:
        return "a lock file"
    if _MINIFIED.search(name):
        return "minified"
    return "a source map" if _SOURCE_MAP.search(name) else ""


def _find(marker: str, names: Collection[str]) -> str:
    if "*" not in marker:
        return marker if marker in names else ""
    return next((name for name in names if fnmatchcase(name, marker)), "")
