"""Ignore files, and lists of paths on standard input; git itself is the judge."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.commands.options import read_list
from indexer.files.discover import Discovery, discover
from retrieval.errors import InvalidArgument
from tests.indexer.files.test_discover import reasons, uris, write


def ignored(found: Discovery) -> dict[str, str]:
    return {skip.uri: skip.detail for skip in found.skipped if skip.reason == "ignored"}


def test_ignore_files(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    for name in ("a.md", "b.txt", "out/c.md", "sub/out/d.md", "sub/e.log", "sub/keep.txt", "f.md"):
        write(root / name)
    write(root / ".gitignore", "*.txt\n/out/\n# comment\n\n[bad\n")
    write(root / "sub" / ".gitignore", "!keep.txt\n*.log\n")
    write(root / ".indexerignore", "f.md\n!b.txt\n")
    found = discover([root])
    assert uris(found) == ["docs/a.md", "docs/b.txt", "docs/sub/keep.txt", "docs/sub/out/d.md"]
    assert ignored(found) == {
        "docs/f.md": "by .indexerignore",
        "docs/out": "by .gitignore",
        "docs/sub/e.log": "by sub/.gitignore",
    }
    everything = discover([root], use_ignore_files=False)
    assert len(everything.files) == 7
    assert uris(discover([root / "b.txt"])) == ["b.txt"]  # what is named itself is wanted


def test_ignore_files_above_the_root_count_within_a_repository(tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    root = repository / "x" / "docs"
    write(root / "a.md")
    write(root / "gen" / "b.md")
    write(repository / ".gitignore", "/x/docs/gen\n")
    write(tmp_path / ".gitignore", "*.md\n")
    assert len(discover([root]).files) == 2  # no repository yet
    (repository / ".git").mkdir()
    found = discover([root])
    assert uris(found) == ["docs/a.md"]
    assert ignored(found) == {"docs/gen": "by ../../.gitignore"}


def test_a_folder_whose_ignore_file_is_unreadable_is_not_entered(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    write(root / "a.md")
    write(root / "sub" / "b.md")
    write(root / "sub" / ".gitignore", "x\n" * 600_000)
    found = discover([root])
    assert uris(found) == ["docs/a.md"]
    assert reasons(found) == {"docs/sub": "unreadable"}


NAMES = st.sampled_from(["a.md", "b.md", "x/a.md", "x/b.md", "x/y/a.md", "x/y/c.md", "y/a.md"])
PATTERNS = st.sampled_from(
    [
        *("a.md", "/a.md", "x", "x/", "/x/*", "!x/y", "!x/y/", "**/y", "y/**", "x/**/c.md"),
        *(
            "!x",
            "*",
            "!*.md",
            "/*",
            "!a.md",
            "*.md",
            "!/x/a.md",
            "x/y/*",
            "\\!a.md",
            "#x",
            "[ab].md",
            "?.md",
            " ",
            "!*/",
        ),
    ]
)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.sets(NAMES, min_size=1),
    top=st.lists(PATTERNS, max_size=4),
    inner=st.lists(PATTERNS, max_size=3),
)
def test_git_agrees(names: set[str], top: list[str], inner: list[str], tmp_path: Path) -> None:
    root = tmp_path / "docs"
    shutil.rmtree(root, ignore_errors=True)
    for name in names:
        write(root / name)
    write(root / ".gitignore", "\n".join(top))
    if inner and (root / "x").is_dir():
        write(root / "x" / ".gitignore", "\n".join(inner))
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.check_output(command, cwd=root, env=environment, text=True)

    git("init", "-q")
    listed = git("ls-files", "--others", "--exclude-standard").split()
    expected = sorted(f"docs/{name}" for name in listed if name.endswith(".md"))
    assert uris(discover([root])) == expected


def test_a_list_of_paths(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    for name in ("a.md", "x/b.md", "x/c.md", ".h/d.md", "e.exe"):
        write(root / name)
    write(root / ".gitignore", "a.md\n")
    write(root / "x" / "b.md.meta.json", '{"k": "v"}')
    (root / "link.md").symlink_to("x/c.md")
    listed = ["x/b.md", "./a.md", "x/../.h/d.md", "gone.md", "e.exe", str(root / "a.md"), "link.md"]
    found = discover([root], listed=listed)
    assert uris(found) == ["docs/.h/d.md", "docs/a.md", "docs/link.md", "docs/x/b.md"]
    assert reasons(found) == {"docs/gone.md": "missing", "docs/e.exe": "unsupported format"}
    assert [file.uri for file in found.files if file.sidecar] == ["docs/x/b.md"]
    for outside in ("../other.md", "/etc/passwd", "."):
        with pytest.raises(InvalidArgument, match="not a file in"):
            discover([root], listed=[outside])


def test_lists_are_lines_or_have_nul_between() -> None:
    assert read_list(io.BytesIO(b"a b.md\nc.md\r\n\n")) == ["a b.md", "c.md"]
    assert read_list(io.BytesIO(b"a\nb.md\0c.md\0")) == ["a\nb.md", "c.md"]
    with pytest.raises(InvalidArgument, match="is empty"):
        read_list(io.BytesIO(b"\n"))
