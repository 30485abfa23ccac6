"""How much text of PDF, DOCX and HTML files is found, beside markitdown on the same files.

    python -m benchmarks.documents.text_recall FOLDER... [--show 20]
        [--python PYTHON_WITH_MARKITDOWN]

Words are runs of letters and digits, case-insensitive, and counted: a word that occurs twice has to
be found twice. Because markitdown runs words together in PDF files, runs of eight letters are
counted as well, whatever stands between them. The output has, for each format, the share of
markitdown's text that we find, and the share of our text that markitdown finds.

Navigation, links to a heading itself and descriptions of pictures are removed from HTML before
markitdown gets it, because we leave them out on purpose. ``--show`` lists the words that only one
of the two finds most often.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from indexer.parse.formats import parse
from indexer.skip import SkipDocument

ENDS = (".pdf", ".docx", ".html")
_WORD = re.compile(r"[^\W_]+")
_LINK = re.compile(r"\]\([^)\s]*\)|<https?://[^>]*>|!\[[^\]]*\]\([^)]*\)")
"""Targets of links and pictures in markitdown's Markdown, which are not text of the page."""

_THEIRS = """
import io, json, sys
from markitdown import MarkItDown, StreamInfo
from selectolax.lexbor import LexborHTMLParser
converter = MarkItDown()
dropped = "nav,footer,aside,button,img,a.headerlink,.navheader,.navfooter,[role=navigation]"
for path in sys.stdin.read().split("\\0"):
    try:
        if path.endswith(".html"):
            tree = LexborHTMLParser(open(path, "rb").read().decode("utf-8", "replace"))
            for node in tree.css(dropped):
                node.decompose()
            page = io.BytesIO(tree.html.encode())
            info = StreamInfo(extension=".html", charset="utf-8")
            text = converter.convert_stream(page, stream_info=info).text_content
        else:
            text = converter.convert(path).text_content
    except Exception as error:
        text = ""
    print(json.dumps(text), flush=True)
"""


def main() -> None:
    """Compare both and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--python", default=sys.executable, help="has markitdown[pdf,docx]")
    parser.add_argument("--show", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(
        path for root in options.folders for path in root.rglob("*") if path.suffix in ENDS
    )
    theirs = subprocess.run(
        [options.python, "-c", _THEIRS],
        input="\0".join(map(str, paths)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout.splitlines()
    ours_only: dict[str, Counter[str]] = {end: Counter() for end in ENDS}
    theirs_only: dict[str, Counter[str]] = {end: Counter() for end in ENDS}
    totals: dict[str, Counter[str]] = {end: Counter() for end in ENDS}
    for path, line in zip(paths, theirs, strict=True):
        other_text, own_text = _LINK.sub("] ", json.loads(line)), ""
        try:
            own_text = parse(str(path), path.read_bytes()).text
        except SkipDocument as skip:
            print(f"{path}: {skip}")
        own, other = words(own_text), words(other_text)
        ours_only[path.suffix] += own - other
        theirs_only[path.suffix] += other - own
        total = totals[path.suffix]
        total.update(files=1, ours=own.total(), theirs=other.total(), both=(own & other).total())
        own, other = runs(own_text), runs(other_text)
        total.update(own_runs=own.total(), other_runs=other.total(), runs=(own & other).total())
    for end, total in totals.items():
        if total["files"]:
            print(f"{end}: {total['files']} files")
            print(f"  words: {_shares(total, 'ours', 'theirs', 'both')}")
            print(f"  runs:  {_shares(total, 'own_runs', 'other_runs', 'runs')}")
        if options.show:
            print("  only ours: ", ours_only[end].most_common(options.show))
            print("  only theirs:", theirs_only[end].most_common(options.show))


def _shares(total: Counter[str], ours: str, theirs: str, both: str) -> str:
    return (
        f"{total[ours]} and {total[theirs]}, we have {total[both] / max(1, total[theirs]):.4f} of "
        f"theirs, they {total[both] / max(1, total[ours]):.4f} of ours"
    )


def runs(text: str) -> Counter[str]:
    """Count runs of eight letters or digits, whatever stands between them."""
    letters = "".join(_WORD.findall(text.lower()))
    return Counter(letters[start : start + 8] for start in range(len(letters) - 7))


def words(text: str) -> Counter[str]:
    """Count the words."""
    return Counter(_WORD.findall(text.lower()))


if __name__ == "__main__":
    main()
