"""Checks of the arguments of public functions: errors name the wrong type and where it is."""

from collections.abc import Iterable, Mapping, Set

from retrieval.errors import InvalidArgument


def text_list(texts: Iterable[str], *, field: str = "texts") -> list[str]:
    """Return texts as a list; a generator is read to its end.

    Args:
        texts: any iterable of texts in a fixed order, but not a single text.
        field: the caller's name for it, for the error.

    Raises:
        InvalidArgument: it is one text, or not an iterable of texts. The message names the position
            and type of the first item that is not a text or not valid Unicode.
    """
    refuse_one_text(texts, field=field)
    if isinstance(texts, bytes | bytearray | memoryview | Mapping | Set) or not _iterable(texts):
        raise InvalidArgument(f"{field} is {kind_of(texts)}; give a list of texts", field=field)
    listed = list(texts)
    for place, text in enumerate(listed):
        # Most texts are ASCII, which is always valid: skip formatting their place.
        if not (isinstance(text, str) and text.isascii()):
            check_text(text, field=f"{field}[{place}]")
    return listed


def refuse_one_text(texts: object, *, field: str = "texts") -> None:
    """Refuse a single text in place of several: as a sequence it would be its letters.

    Raises:
        InvalidArgument: it is a single text.
    """
    if isinstance(texts, str):
        raise InvalidArgument(f"{field} is one text; give a list of texts: [text]", field=field)


def check_text(text: object, *, field: str) -> None:
    """Refuse a value that is not a text.

    Raises:
        InvalidArgument: it is not a ``str``, or has lone surrogates, which UTF-8 can't encode.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"{field} is {kind_of(text)}; it must be a text (str)", field=field)
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{field} is not valid Unicode (character {error.start + 1}): was it decoded with "
            "the right encoding?",
            field=field,
        ) from error


def kind_of(value: object) -> str:
    """Return a description to follow "is" in a message: ``None``, or ``of type int``."""
    return "None" if value is None else f"of type {type(value).__name__}"


def _iterable(value: object) -> bool:
    try:
        iter(value)  # type: ignore[call-overload]  # the question is whether it can be
    except TypeError:
        return False
    return True
