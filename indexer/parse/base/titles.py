"""Tell the titles that people wrote from those that a program put into a file's properties."""

import re
from typing import Final

from indexer.parse.base.outline import words

# What programs call a document, deck or workbook without a name, in the languages in which they are
# used most; "_" stands for a space.
_NAMELESS: Final = frozenset(
    name.replace("_", " ")
    for name in words(
        """
        document dokument documento documents dokumentti документ 文档 文書
        presentation präsentation présentation presentación apresentação presentazione presentatie
        prezentacja презентация プレゼンテーション 演示文稿 簡報 프레젠테이션
        slide slides folie diapositive diapositiva diapositivo dia lysbilde snímek slajd slayt слайд
        スライド 幻灯片 投影片 슬라이드
        book workbook mappe classeur libro cartel книга 工作簿 spreadsheet sheet tabelle
        untitled unbenannt ohne_titel sans_titre sans_nom senza_titolo sin_título sem_título
        naamloos bez_tytułu utan_titel uten_navn без_имени без_названия 無題 无标题 無標題
        untitled_document untitled_presentation untitled_spreadsheet new_document blank_document
        blank_presentation no_title notitle title
        no_slide_title aucun_titre_de_diapositive brak_tytułu_slajdu geen_diatitel ingen_bildrubrik
        ingen_diastitel ingen_lysbildetittel kein_folientitel nenhum_título_de_slide
        nessun_titolo_diapositiva sem_título_de_slide sin_título_de_diapositiva нет_заголовка_слайда
        没有幻灯片标题 沒有投影片標題 スライド_タイトルなし 슬라이드_제목_없음
        anonymous unknown none null n/a default template blank temp tmp test layout print
        """
    )
)
_NUMBER: Final = re.compile(r"[\s_(-]*+\d++\)?$")
"""What may follow: "Document1", "Untitled-2", "Slide 1"."""

# "PowerPoint Presentation", "Présentation PowerPoint", "Prezentacja programu PowerPoint",
# "Microsoft Word Document": the name of a program, and at most two words for what it makes.
_PROGRAM: Final = r"(?:microsoft |ms )?(?:office )?(?:power ?point|word|excel|publisher|visio)"
_KINDS: Final = (
    r"(?:(?:standard |new )?(?:document|dokument|documento|file|workbook|worksheet|slide ?show"
    r"|presentation|präsentation|présentation|presentación|apresentação|presentazione|presentatie"
    r"|presentasjon|prezentacja|prezentace|prezentáció|esitys|sunusu|sunum"
    r"|презентация|プレゼンテーション|演示文稿|簡報|프레젠테이션|文档|文書))"
)
_BY_PROGRAM: Final = re.compile(
    rf"microsoft (?:word|powerpoint|excel|office)|power ?point"
    rf"|{_PROGRAM}[ -]*+{_KINDS}[ -]*+\d*+"
    rf"|{_KINDS} (?:(?:standard )?(?:do|di|de|programu|aplikace) )?{_PROGRAM} ?\d*+"
)
# What a printer's driver or a converter writes: "Microsoft Word - thesis.doc".
_BY_PRINTER: Final = re.compile(
    r"(?:microsoft (?:word|powerpoint|excel|publisher|outlook)|corel ?draw|pagemaker|printing)"
    r" ?[-:] ?.*|enscript output|full page fax print|remote desktop redirected printer doc"
    r"|about:blank",
    re.DOTALL,
)
_FILE_NAME: Final = re.compile(
    r".*\.(?:docx?|docm|dotx?|dvi|eps|fm|html?|indd|key|md|odp|ods|odt|p65|pages|pdf|pmd|pptx?|pptm"
    r"|potx?|pps|ppsx|ps|pub|qxd|rtf|sxw|tex|txt|wpd|xlsx?|xlsm|xml)",
    re.DOTALL,
)
_ADDRESS: Final = re.compile(r"(?:[a-z]:\\|\\\\|file:|https?://|/\w++/)\S*+", re.DOTALL)
# A GUID, a hash, or an identifier without a letter: no word of it can be searched for.
_IDENTIFIER: Final = re.compile(r"\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?|[0-9a-f]{32,}+")
_PAIRS: Final = {"(": ")", "[": "]", "<": ">", "{": "}", '"': '"', "'": "'"}

_MAX_CHARS: Final = 1000
"""Longer properties are text; no program writes a title of this length by itself."""


def is_junk_title(title: str) -> bool:
    """Return whether a title says nothing about the document, so that another should be used.

    True for what programs write into the properties of a file without a title ("PowerPoint
    Presentation", "Document1", "Untitled", "(anonymous)"), for names of files and printing jobs
    ("Microsoft Word - thesis.doc"), for addresses and identifiers, and for titles without a letter
    or a digit. Only titles from properties should be asked about: a chapter may be called "Test".
    """
    if len(title) > _MAX_CHARS:
        return False
    text = " ".join(title.split()).casefold()
    if len(text) > 1 and _PAIRS.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    if not any(character.isalnum() for character in text):
        return True
    return _NUMBER.sub("", text) in _NAMELESS or any(
        pattern.fullmatch(text)
        for pattern in (_BY_PROGRAM, _BY_PRINTER, _FILE_NAME, _ADDRESS, _IDENTIFIER)
    )
