"""Find the row of a table that names its columns, if there is one."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Final, NamedTuple

from indexer.parse.base.outline import words

Row = Sequence[str]

MAX_TITLE_ROWS: Final = 20
"""Number of rows above the header that may hold titles and remarks."""
_MOST_LONG: Final = 0.5
"""Share of names over ``LONGEST_NAME`` above which a row is text and not names."""
LONGEST_NAME: Final = 80
"""Longer names are cut where they stand before values."""
_PAIR: Final = 2
"""Two columns are too few to miss one, and two numbers too few to be a series."""
_MOST: Final = 0.8
"""Share of a column's values that must have a kind; exports have a few gaps and remarks."""
_UNLIKELY: Final = 0.05
"""A row is a header if the chance is below this that, as values, its words were all new."""
_KNOWN_SHARE: Final = 0.5
"""Share of common names above which a row is a header."""

# Names that columns often have, in the languages of most of the spreadsheets on the web. They
# decide only where the values below are of no other kind, as in "Name, Place".
_COMMON_NAMES: Final = words(
    """
    name names id ids no nr number key code title titles type kind category class group status
    state date time year month day week hour period quarter start end begin from to source target
    description comment comments note notes remark remarks text label value values unit units
    count quantity qty amount total sum price cost rate percent share size weight length width
    height age gender sex rank position level order priority version revision model brand color
    colour product item article part parts sku category supplier vendor customer client company
    organization organisation department team role job person people contact author authors owner
    user username first last firstname lastname surname email mail phone telephone fax mobile
    address street city town place location site country region district province zip postcode
    postal latitude longitude lat lon lng url link website web language currency account
    question answer term definition word meaning translation symbol abbreviation acronym
    property field column parameter option default required variable setting feature
    method function file path folder subject topic chapter section page event action result
    reason cause species genus family team player score points home away date parent
    monday tuesday wednesday thursday friday saturday sunday january february march april may june
    july august september october november december jan feb mar apr jun jul aug sep oct nov dec
    mon tue wed thu fri sat sun q1 q2 q3 q4

    nummer bezeichnung titel typ art kategorie gruppe datum zeit jahr monat tag woche von bis
    beschreibung bemerkung notiz wert einheit anzahl menge betrag summe preis kosten größe gewicht
    farbe artikel produkt teil lieferant kunde firma abteilung vorname nachname telefon adresse
    straße ort stadt land plz sprache konto frage antwort begriff bedeutung seite ergebnis

    nom prénom numéro titre catégorie groupe statut état année mois jour semaine heure début fin
    commentaire valeur unité nombre quantité montant prix coût taille poids couleur produit client
    société adresse rue ville pays région langue compte réponse terme définition résultat lieu

    nombre apellido número título tipo categoría grupo estado fecha año mes día semana hora inicio
    descripción comentario valor unidad cantidad importe precio costo tamaño peso producto cliente
    empresa dirección calle ciudad país región idioma cuenta pregunta respuesta resultado lugar

    nome cognome numero titolo categoria gruppo stato data anno mese giorno ora inizio fine
    descrizione valore unità quantità importo prezzo peso colore prodotto azienda indirizzo città
    paese lingua domanda risposta preço quantidade ano mês endereço cidade país

    имя фамилия название номер код тип дата год месяц описание количество цена сумма адрес город
    страна телефон

    名称 名前 编号 番号 类型 種類 日期 日付 年 月 数量 价格 価格 地址 住所 城市 国家 国
    이름 번호 날짜 가격 수량 주소
    """
)
_WORD: Final = re.compile(r"[^\W_]++")
_PERIOD: Final = re.compile(r"(?:19|20)\d\d(?:[-/.](?:\d\d|\d{4}))?(?:[-/.]\d\d)?")
"""A year, a range of years, a month or a date; columns are named so, too."""
_MEASURE: Final = re.compile(r"[-+~<>≤≥±$€£¥(]*+[.,]?\d")
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9]*+(?:[_.-][a-z0-9]++)*+|[A-Z][A-Z0-9_. -]*+")
"""How programs write names: ``first_name`` or ``FIRST NAME``."""
_SMALL: Final = words("of the in per for de du des la le del di da do der and s")
_MISSING: Final = words("n/a na none null nan nil unknown missing tbd")
_FLAGS: Final = words("true false yes no y n x ja nein oui non")

_TEXT, _NUMBER, _SPAN, _BLANK = "text", "number", "period", "blank"


class Header(NamedTuple):
    """Where a row names the columns of a table."""

    row: int
    start: int
    """First of the columns."""
    end: int
    names: list[str]
    """Names of the columns; empty for a column without one."""


def find_headers(rows: Sequence[Row]) -> list[Header]:
    """Return the rows that name columns: of one table, or of each of several side by side.

    Args:
        rows: the first rows of a sheet, tidied, empty ones left out.
    """
    if (one := find_header(rows)) is not None:
        return [Header(one, 0, len(rows[one]), _names(rows, one, 0, len(rows[one])))]
    headers: list[Header] = []
    for start, end in _blocks(rows):
        block = [(index, part) for index, row in enumerate(rows) if any(part := row[start:end])]
        parts = [_stripped(part) for _, part in block]
        if (found := find_header(parts)) is not None:
            row = block[found][0]
            headers.append(Header(row, start, end, _names(rows, row, start, end)))
    return headers


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Yield the first column and the end of each block of columns, if there are several."""
    width = max(map(len, rows), default=0)
    used = [any(column < len(row) and row[column] for row in rows) for column in range(width)]
    ends = [column for column in range(1, width + 1) if column == width or not used[column]]
    if len(ends) > 1:
        start = 0
        for end in ends:
            if end - start >= _PAIR:
                yield start, end
            start = end + 1


def _stripped(row: Row) -> Row:
    """Return a row without the empty values at its end."""
    end = len(row)
    while end and not row[end - 1]:
        end -= 1
    return row[:end]


def _names(rows: Sequence[Row], header: int, start: int, end: int) -> list[str]:
    """Return the names of columns: those of a group of columns, such as a year, before their own.

    The groups are a row above that has gaps, where names below come again.
    """
    names = [*rows[header][start:end], *[""] * (end - len(rows[header]))]
    above = rows[header - 1][start:end] if header else []
    filled = list(filter(None, names))
    if sum(map(bool, above)) > 1 and len(set(filled)) < len(filled) and not all(above):
        group = ""
        for column, name in enumerate(names):
            group = above[column] if column < len(above) and above[column] else group
            names[column] = f"{group} {name}".strip() if name else name
    return names


def find_header(rows: Sequence[Row]) -> int | None:
    """Return the index of the row that names the columns; None if no row does.

    The header is the first row that is as wide as most rows, and names columns plainly: the values
    below differ from it in kind, or it consists of names that columns often have, or words that
    were new each time would be unlikely. Narrower rows above are titles.

    Args:
        rows: the first rows of a table, tidied, empty ones left out.
    """
    widths = Counter(len(row) for row in rows if len(row) > 1)
    if not widths:
        return None
    most = max(widths.values())
    width = max(width for width, count in widths.items() if count == most)
    for index, row in enumerate(rows[: MAX_TITLE_ROWS + 1]):
        filled = sum(map(bool, row))
        # The name of the last column may be missing, but only at the very top: a title of two
        # cells is not a header.
        missing = 1 if index == 0 and width > _PAIR else 0
        if filled > 1 and filled > width / 2 and len(row) >= width - missing:
            # A title of two cells may stand above a table of three columns.
            if (
                len(row) < width
                and len(rows) > 1
                and len(rows[1]) >= width
                and is_header(rows[1], rows[2:])
            ):
                return 1
            return index if is_header(row, rows[index + 1 :]) else None
    return None


def is_header(row: Row, below: Sequence[Row]) -> bool:
    """Return whether a row plainly names the columns of the rows below."""
    names = [(column, name) for column, name in enumerate(row) if name]
    below = [other for other in below if other != row]  # printed again at the top of each page
    if not below or sum(len(name) > LONGEST_NAME for _, name in names) > _MOST_LONG * len(names):
        return False
    counts_up = _counts_up(row) and not any(map(_counts_up, below))
    is_plain = seen = False
    chances: list[float] = []
    for column, name in names:
        values = [other[column] for other in below if column < len(other) and other[column]]
        kind = _SPAN if counts_up and _kind(name) == _NUMBER else _kind(name)
        if kind == _NUMBER or (kind == _SPAN and not counts_up and _are_mostly(values, _SPAN)):
            return False
        seen = seen or name in values
        if kind == _SPAN:
            is_plain = is_plain or bool(values)
        elif kind == _TEXT:
            is_plain = is_plain or (not _is_value(name) and _differ_in_kind(values))
            chances.append(_chance_of_new(values))
    if is_plain:
        return True
    return not seen and (
        _are_known([name for _, name in names])
        or prod(chances) < _UNLIKELY
        or _differ_in_style([name for _, name in names], below)
    )


def _kind(text: str) -> str:
    if _PERIOD.fullmatch(text):
        return _SPAN
    if any(character.isalpha() for character in text):
        return _BLANK if text.casefold() in _MISSING else _TEXT
    return _NUMBER if any(character.isdigit() for character in text) else _BLANK


def _are_mostly(values: Row, kind: str) -> bool:
    return bool(values) and sum(_kind(value) == kind for value in values) >= _MOST * len(values)


def _differ_in_kind(values: Row) -> bool:
    """Whether the values below a text are numbers, dates or amounts."""
    kinds = Counter(map(_kind, values))
    numbers = kinds[_NUMBER] + kinds[_SPAN]
    if values and numbers >= _MOST * (len(values) - kinds[_BLANK]) and numbers:
        return True
    # "1.1 kg" is an amount, but a single "5th Avenue" is not.
    return len(values) > 1 and all(map(_is_value, values))


def _is_value(text: str) -> bool:
    """Whether a text is an amount such as "1.1 kg", or a flag such as "yes"."""
    return bool(_MEASURE.match(text)) or text.casefold() in _FLAGS


def _counts_up(row: Row) -> bool:
    """Whether the numbers of a row are at least three that follow each other, as years do."""
    numbers = [int(value) for value in row if value.isdecimal() and len(value) <= len("2000")]
    return len(numbers) > _PAIR and all(after == before + 1 for before, after in pairwise(numbers))


def _chance_of_new(values: Row) -> float:
    """Return the chance that one more value of a column would be new, as Good and Turing do.

    It is the share of the values that were there once. One is added for what has not been seen.
    """
    once = sum(count == 1 for count in Counter(values).values())
    return (once + 1) / (len(values) + 1)


def _are_known(names: Row) -> bool:
    """Whether enough of the names are common ones."""
    known = sum(_is_common(name) for name in names)
    return known > 1 and known >= _KNOWN_SHARE * len(names)


def _is_common(name: str) -> bool:
    """Whether each word of a name is one that names of columns have, as in "unit price"."""
    parts = [part for part in _WORD.findall(name.casefold()) if part not in _SMALL]
    return bool(parts) and all(part in _COMMON_NAMES for part in parts)


def _differ_in_style(names: Row, below: Sequence[Row]) -> bool:
    """Whether all names are written as programs write them, and hardly a value is."""
    if len(names) <= 1 or not all(map(_IDENTIFIER.fullmatch, names)):
        return False
    texts = [value for value in _values(below) if _kind(value) == _TEXT]
    same = sum(bool(_IDENTIFIER.fullmatch(value)) for value in texts)
    return len(texts) > len(names) and same <= (1 - _MOST) * len(texts)


def _values(rows: Sequence[Row]) -> Iterator[str]:
    return (value for row in rows for value in row if value)
