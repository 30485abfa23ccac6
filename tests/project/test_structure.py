"""Folders stay small enough to take in at a glance."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHECKED = ("retrieval", "indexer", "tests")
MOST_SIBLINGS = 12
"""Modules and packages in one folder. More than a dozen names are searched, not read."""
TESTS_TOP = 17
"""At the top of ``tests/``, which mirrors the folders of two packages and of the trainer."""
NOT_COUNTED = {"retrieval/v1", "retrieval/indexer_v1", "retrieval/encoder"}
"""Generated, or a public name for what lies elsewhere: nobody looks for a place in there."""


def folders(root: Path) -> list[Path]:
    """The packages under a folder, itself among them."""
    return sorted(path.parent for path in root.rglob("__init__.py"))


def siblings(folder: Path) -> list[str]:
    """Names of the modules and packages in a package; folders of data hold no code."""
    modules = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")]
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    generated = {Path(name).name for name in NOT_COUNTED if (ROOT / name).parent == folder}
    return sorted({*modules, *packages} - generated - {"conftest"})


@pytest.mark.parametrize(
    "folder",
    [
        folder
        for name in CHECKED
        for folder in folders(ROOT / name)
        if folder.relative_to(ROOT).as_posix() not in NOT_COUNTED
    ],
    ids=lambda folder: folder.relative_to(ROOT).as_posix(),
)
def test_a_folder_has_few_siblings(folder: Path) -> None:
    most = TESTS_TOP if folder == ROOT / "tests" else MOST_SIBLINGS
    names = siblings(folder)
    assert len(names) <= most, f"group what belongs together: {names}"
