"""Say how files were chosen, as on the command line."""

import shlex

from retrieval.domain.records import FileChoice
from retrieval.domain.wording import printable


def spelled(choice: FileChoice) -> str:
    """Return the options that make a choice of files; "the defaults" if there are none."""
    options = [f"--include {shlex.quote(pattern)}" for pattern in choice.include]
    options += [f"--exclude {shlex.quote(pattern)}" for pattern in choice.exclude]
    if not choice.ignore_files:
        options.append("--no-ignore")
    if choice.listed:
        options.append("a list of files")
    return printable(" ".join(options)) or "the defaults"
