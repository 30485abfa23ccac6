"""Names of encodings as documents write them, and the Python codecs that read them.

The table is that of the WHATWG's Encoding Standard (https://encoding.spec.whatwg.org): many labels
mean a superset of the encoding that they name, because that is what programs wrote under them.
"""

import codecs
from types import MappingProxyType
from typing import Final

_LABELS: Final = MappingProxyType(
    {
        "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 utf8mb4 x-unicode20utf8",
        "cp866": "866 cp866 csibm866 ibm866",
        "iso8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 "
        "iso_8859-2:1987 l2 latin2",
        "iso8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 "
        "iso_8859-3:1988 l3 latin3",
        "iso8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 "
        "iso_8859-4:1988 l4 latin4",
        "iso8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 "
        "iso_8859-5 iso_8859-5:1988",
        "iso8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 "
        "iso-8859-6-e iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
        "iso8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 "
        "iso8859-7 iso88597 iso_8859-7 iso_8859-7:1987 sun_eu_greek",
        "iso8859-8": "csiso88598e csiso88598i csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e "
        "iso-8859-8-i iso-ir-138 iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 logical visual",
        "iso8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
        "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
        "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
        "iso8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9 latin9 latin-9",
        "iso8859-16": "iso-8859-16",
        "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
        "koi8-u": "koi8-ru koi8-u",
        "mac-roman": "csmacintosh mac macintosh x-mac-roman",
        "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
        "cp1250": "cp1250 windows-1250 x-cp1250",
        "cp1251": "cp1251 windows-1251 x-cp1251",
        "cp1252": "ansi ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 "
        "iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin-1 latin1 us us-ascii windows-1252 "
        "x-ansi x-cp1252",
        "cp1253": "cp1253 windows-1253 x-cp1253",
        "cp1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 "
        "iso_8859-9:1989 l5 latin5 windows-1254 x-cp1254",
        "cp1255": "cp1255 windows-1255 x-cp1255",
        "cp1256": "cp1256 windows-1256 x-cp1256",
        "cp1257": "cp1257 windows-1257 x-cp1257",
        "cp1258": "cp1258 windows-1258 x-cp1258",
        "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
        "gbk": "chinese cp936 csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 "
        "ms936 windows-936 x-gbk",
        "gb18030": "gb18030",
        "big5hkscs": "big5 big5-hkscs cn-big5 cp950 csbig5 x-x-big5",
        "euc_jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
        "iso2022_jp": "csiso2022jp iso-2022-jp",
        "cp932": "cp932 csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
        "cp949": "cp949 cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 "
        "ks_c_5601-1989 ksc5601 ksc_5601 uhc windows-949",
        "utf-16-be": "unicodefffe utf-16be",
        "utf-16-le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le",
    }
)
"""Python's name of each encoding of the standard, and its labels, with a few that mails use."""

_BY_LABEL: Final = {
    label: codec for codec, labels in _LABELS.items() for label in (codec, *labels.split())
}

_OTHERS: Final = """
    cp437 cp720 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865
    cp869 cp1125 euc_jis_2004 euc_jisx0213 hz iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004
    iso2022_jp_3 iso2022_jp_ext iso2022_kr johab koi8-t kz1048 mac-croatian mac-greek
    mac-iceland mac-latin2 mac-romanian mac-turkish ptcp154 shift_jis_2004 shift_jisx0213 utf-7
    utf-32 utf-32-be utf-32-le
    """
"""Other codecs of Python's that a document may name. The rest encode no text, or are slow on
hostile input."""

# The first bytes of a document are ASCII if its label could be read.
_NOT_ASCII: Final = frozenset({"utf-16-be", "utf-16-le", "utf-32", "utf-32-be", "utf-32-le"})

_WIDER: Final = MappingProxyType(
    {
        "gbk": ("gb18030",),
        "cp932": ("shift_jis_2004",),
        "euc_jp": ("euc_jis_2004",),
        "iso2022_jp": ("iso2022_jp_ext", "iso2022_jp_2004"),
        "big5hkscs": ("cp950",),
    }
)


def codec_of(label: str) -> str:
    """Return the codec for an encoding's name in a document; empty if the name means nothing.

    For ``gb2312`` that is ``gbk``, for ``iso-8859-1`` it is ``cp1252``, and so on.
    """
    name = label.strip().strip("\"'").lower()
    if codec := _BY_LABEL.get(name) or _BY_LABEL.get(name.replace("_", "-")):
        return codec
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):  # unknown, or not the name of anything
        return ""
    return _BY_LABEL.get(codec) or (codec if codec in _OTHERS.split() else "")


def codec_of_markup(label: str) -> str:
    """Return the codec for the encoding that HTML or XML names in its own first bytes.

    A label that can be read as ASCII is not of UTF-16: the standard takes it for UTF-8.
    """
    codec = codec_of(label)
    return "utf-8" if codec in _NOT_ASCII else codec


def supersets_of(codec: str) -> tuple[str, ...]:
    """Return the codec, and those that also read characters that it lacks."""
    return codec, *_WIDER.get(codec, ())
