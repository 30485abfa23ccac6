"""Lines of mdoc(7), whose macros say what their words are."""

from collections.abc import Sequence
from typing import Final

from indexer.parse.base.outline import words

_ENCLOSURES: Final = {
    "Aq": "<>", "Bq": "[]", "Brq": "{}", "Dq": "“”", "Op": "[]", "Pq": "()", "Qq": '""',
    "Ql": "‘’", "Sq": "‘’",
}  # fmt: skip
"""Macros that enclose the rest of the line."""
_OPENING: Final = {
    "Ao": "<", "Bo": "[", "Bro": "{", "Do": "“", "Oo": "[", "Po": "(", "Qo": '"', "So": "‘"
}  # fmt: skip
_CLOSING: Final = {
    "Ac": ">", "Bc": "]", "Brc": "}", "Dc": "”", "Oc": "]", "Pc": ")", "Qc": '"', "Sc": "’"
}  # fmt: skip
_SYSTEMS: Final = {
    "Bsx": "BSD/OS", "Bx": "BSD", "Dx": "DragonFly", "Fx": "FreeBSD", "Nx": "NetBSD",
    "Ox": "OpenBSD", "Ux": "UNIX",
}  # fmt: skip
_SILENT: Final = words(
    """
    Ad An Ar Bf Cd Cm D1 Dl Dv Ec Ef Em En Eo Er Es Ev Ex Fa Fc Fd Fn Fo Fr Ft Hf Ic In It Lb Li Lk
    Ms Mt No Pa Rv St Sx Sy Ta Tg Va Vt Xc Xo %A %B %D %I %J %N %O %P %Q %R %T %U %V
    """
)
"""Macros of which only the words are shown."""
_JOINING: Final = words("Ap Ns Pf")
MACROS: Final = (
    _SILENT
    | _JOINING
    | _ENCLOSURES.keys()
    | _OPENING.keys()
    | _CLOSING.keys()
    | _SYSTEMS.keys()
    | words("Fl Nd Nm Xr")
)
"""Names of the macros that may begin a line, or follow in it."""
_BEFORE: Final = words(". , : ; ) ] ? ! ” ’ > }")
"""Words that stand next to the one before."""
_AFTER: Final = words("( [ “ ‘ < {")
"""Words that stand next to the one after."""


class Line:
    """Text of a line of macros."""

    def __init__(self, name: str) -> None:
        """Begin a line.

        Args:
            name: of the program; empty as long as the page has not said it.
        """
        self.name = name
        self._parts: list[str] = []
        self._closing: list[str] = []
        self._tight = False

    def read(self, words_: Sequence[str]) -> str:
        """Return the text of the line's macros and their arguments."""
        place = 0
        while place < len(words_):
            word, following = words_[place], words_[place + 1 : place + 3]
            place += 1
            if word in ("Fl", "Nm", "Xr"):
                place += self._named(word, following)
            elif word in _ENCLOSURES:
                marks = _ENCLOSURES[word]
                self._closing.append(marks[1])
                self._put(marks[0], tight=True)
            elif word in _JOINING:
                self._tight = True
            elif word not in _SILENT:
                shown = _OPENING.get(word) or _CLOSING.get(word) or _SYSTEMS.get(word) or word
                self._put("–" if word == "Nd" else shown, tight=word in _OPENING)
        return "".join(self._parts) + "".join(reversed(self._closing))

    def _named(self, macro: str, following: Sequence[str]) -> int:
        """Put a flag, the program's name or another page; return the number of arguments used."""
        own = bool(following) and following[0] not in MACROS and following[0] not in _BEFORE
        if macro == "Xr" and own:
            page = following[0]
            self._put(f"{page}({following[1]})" if following[1:] else page)
            return len(following)
        if macro == "Nm":
            self.name = self.name or (following[0] if own else "")
            self._put(following[0] if own else self.name)
        elif macro == "Fl":
            self._put("-" + following[0] if own else "-", tight=list(following[:1]) == ["Fl"])
        return int(own)

    def _put(self, word: str, *, tight: bool = False) -> None:
        if self._parts and not self._tight and word not in _BEFORE:
            self._parts.append(" ")
        self._parts.append(word)
        self._tight = tight or word in _AFTER
