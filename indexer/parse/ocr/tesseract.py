"""Tesseract, a program that recognises text in over 100 languages, where it is installed."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from indexer.parse.ocr.recognize import Recognized
from indexer.skip import SkipDocument, SkipReason

if TYPE_CHECKING:
    from indexer.parse.ocr.recognize import Picture

_SECONDS: Final = 120.0
"""Time for a picture. A page takes 2 to 10 s."""
_LEVEL: Final = "5"
"""Level of a word in Tesseract's table."""
_COLUMNS: Final = 12


class TesseractRecognizer:
    """Runs Tesseract for each picture."""

    def __init__(self, program: str, languages: Sequence[str]) -> None:
        """Set what to run.

        Args:
            program: path of the program.
            languages: Tesseract's codes; none for its default, English.
        """
        choice = ["-l", "+".join(languages)] if languages else []
        self._command = [program, "stdin", "stdout", *choice, "tsv"]

    def __call__(self, picture: "Picture") -> Sequence[Recognized]:
        """Return the lines of a picture from top to bottom.

        Raises:
            SkipDocument: Tesseract failed, as without the data of a language, or took too long.
        """
        height, width, _ = picture.shape
        pixels = b"P6 %d %d 255\n%s" % (width, height, picture.tobytes())
        try:
            done = subprocess.run(  # noqa: S603 -- without a shell
                self._command,
                input=pixels,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                # A reader process has one core.
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise SkipDocument(SkipReason.TIMED_OUT, "Tesseract takes too long") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").split("\n")[0]
            raise SkipDocument(SkipReason.SCANNED, f"Tesseract: {said}")
        return list(_lines(done.stdout.decode("utf-8", "replace")))


def _lines(table: str) -> Iterator[Recognized]:
    """Yield the lines of Tesseract's table, which has a row for each word."""
    rows = (row.split("\t") for row in table.split("\n"))
    words = [row for row in rows if len(row) == _COLUMNS and row[0] == _LEVEL and row[-1].strip()]
    for _, group in groupby(words, key=lambda row: row[1:5]):
        line = list(group)
        boxes = [tuple(map(float, row[6:10])) for row in line]
        yield Recognized(
            " ".join(row[-1] for row in line),
            min(left for left, _, _, _ in boxes),
            min(top for _, top, _, _ in boxes),
            max(left + width for left, _, width, _ in boxes),
            max(top + height for _, top, _, height in boxes),
        )
