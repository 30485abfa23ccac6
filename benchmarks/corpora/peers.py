"""Texts of the same files by other extractors, for comparison."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

SCRIPTS = {
    "markitdown": """
from markitdown import MarkItDown
convert = MarkItDown().convert
extract = lambda path: convert(path).text_content
""",
    "kreuzberg": """
from kreuzberg import extract_file_sync
extract = lambda path: extract_file_sync(path).content
""",
    "pandoc": """
import pypandoc
extract = lambda path: pypandoc.convert_file(path, "plain", extra_args=["--wrap=none"])
""",
    "striprtf": """
from striprtf.striprtf import rtf_to_text
extract = lambda path: rtf_to_text(open(path, "rb").read().decode("latin-1"), errors="replace")
""",
    "trafilatura": """
import trafilatura
extract = lambda path: trafilatura.extract(open(path, "rb").read(), favor_recall=True) or ""
""",
}
"""Python that defines ``extract``, which returns the text of the file at a path."""

_LOOP = """
import json, os, sys
answers, sys.stdout = sys.stdout, sys.stderr
for path in sys.stdin.read().split("\\0"):
    try:
        text = extract(path)
    except Exception:
        text = ""
    print(json.dumps(text), file=answers, flush=True)
"""


def extract(python: str, peer: str, paths: Sequence[Path]) -> Iterator[str]:
    """Yield the text of each file, empty where the peer can't read it.

    Args:
        python: interpreter that has the peer installed.
        peer: a key of ``SCRIPTS``.
        paths: the files.

    Raises:
        CalledProcessError: the peer is not installed, or its process ended.
    """
    finished = subprocess.run(
        [python, "-c", SCRIPTS[peer] + _LOOP],
        input="\0".join(map(str, paths)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return map(json.loads, finished.stdout.splitlines())
