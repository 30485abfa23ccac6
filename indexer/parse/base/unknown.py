"""Files whose name tells no format: which are never read, and what others are by their content."""

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from indexer.decoding.decode import decode
from indexer.decoding.decompress import decompressed_start, without_compression
from indexer.parse.base.outline import words
from indexer.skip import SkipDocument

SNIFFED_BYTES: Final = 64 << 10
"""Bytes at the start of a file that tell whether it is text. Binary files have NULs or control
characters in the first kilobytes; a longer look finds those that begin with a long text."""

NOT_TEXT: Final = words(
    # Pictures, films and sounds.
    """
    .3gp .aac .ai .aif .aiff .avi .avif .bmp .cdr .cr2 .dds .dng .emf .eps .flac .flv .gif .heic
    .heif .icns .ico .indd .j2k .jp2 .jpe .jpeg .jpg .jxl .m2ts .m4a .m4b .m4v .mid .midi .mka
    .mkv .mov .mp2 .mp3 .mp4 .mpeg .mpg .nef .oga .ogg .ogv .opus .pbm .pcx .pgm .png .pnm .ppm
    .ps .psd .sketch .svgz .swf .tga .tif .tiff .wav .webm .webp .wma .wmf .wmv .xcf .xpm
    """
    # Fonts.
    """
    .eot .fon .otf .pfa .pfb .pfm .ttc .ttf .woff .woff2
    """
    # Programs and what is made for them.
    """
    .a .apk .class .dex .dll .dylib .ear .egg .elc .elf .exe .img .ipa .jar .ko .msi .nib .o
    .pch .pdb .pyc .pyd .pyo .rlib .rmeta .so .war .wasm .whl .xpi
    """
    # Archives and disks.
    """
    .alz .arj .br .cab .cpio .crx .deb .dmg .iso .lz .lz4 .lzh .lzma .lzo .pak .pkg .qcow2 .rar
    .rpm .sit .squashfs .vdi .vhd .vhdx .vmdk .z
    """
    # Data of programs.
    """
    .accdb .arrow .avro .blend .bson .ckpt .db .db3 .dbf .dwg .edb .fbx .feather .ffindex .fits
    .gguf .glb .h5 .hdf .hdf5 .joblib .key .ldb .mdb .mdf .mpp .msgpack .npy .npz .numbers .one
    .onnx .orc .pages .parquet .pickle .pkl .pt .pth .ptl .pub .rda .rds .rdata .safetensors
    .sas7bdat .sav .shp .shx .snappy .sqlite .sqlite3 .tfevents .tfrecord .tflite .usdz .vsd
    .vsdx .xpt .zsav
    """
    # Keys and certificates, which must not turn up in a search.
    """
    .cer .crt .csr .der .gpg .jks .kdb .kdbx .keystore .p12 .p7b .p7s .pem .pfx .pgp .ppk .sig
    """
    # Files that programs work on, and downloads that are not complete.
    """
    .crdownload .download .part .partial .swo .swp .temp .tmp .torrent
    """
)
"""Extensions of files that are not opened to find out what they are."""


def may_be_text(name: str) -> bool:
    """Whether a file whose name tells no format may be read; its content decides."""
    extension = PurePosixPath(without_compression(name)).suffix.lower()
    # Editors put a tilde after the name of the copy that they keep.
    return not (extension in NOT_TEXT or name.endswith("~") or is_library(name))


def is_library(name: str) -> bool:
    """Whether a file is a shared library with a version, such as ``libz.so.1``."""
    return ".so." in name.lower()


class Kind(StrEnum):
    """What the first bytes of a file say that it is."""

    PDF = "pdf"
    OFFICE = "office"
    """Of Microsoft or OpenDocument, or RTF; the whole file tells which."""
    EPUB = "epub"
    HTML = "html"


_PDF: Final = b"%PDF-"
_RTF: Final = b"{\\rtf"
_COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Begins files of Office before 2007, and some that are none."""
_HTML: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_FIRST_MEMBER: Final = re.compile(rb"PK\x03\x04.{22}(..)(..)", re.DOTALL)
"""The header of the first member of a ZIP file; the lengths of its name and of more fields."""
_MIMETYPE: Final = b"mimetype"
"""First member of OpenDocument files and of EPUB. It is their type, and not compressed."""
_EPUB_TYPE: Final = b"application/epub+zip"
_OPEN_TYPE: Final = b"application/vnd.oasis.opendocument."
_OFFICE_MEMBER: Final = re.compile(
    rb"\[Content_Types\]\.xml|_rels/|docProps/|customXml/|word/|xl/|ppt/|content\.xml"
)
"""Begins the name of a member that programs put first into an office file. Other ZIP files are
archives, programs and data of programs."""


def kind_of(start: bytes) -> Kind | None:
    """Return what the first bytes of a file say that it is; None if they say nothing."""
    if start.startswith(_PDF):
        return Kind.PDF
    if start.startswith((_RTF, _COMPOUND)):
        return Kind.OFFICE
    if first := _FIRST_MEMBER.match(start):
        name_at = first.end()
        data_at = name_at + sum(int.from_bytes(size, "little") for size in first.groups())
        if not start.startswith(_MIMETYPE, name_at):
            return Kind.OFFICE if _OFFICE_MEMBER.match(start, name_at) else None
        if start.startswith(_EPUB_TYPE, data_at):
            return Kind.EPUB
        return Kind.OFFICE if start.startswith(_OPEN_TYPE, data_at) else None
    return Kind.HTML if _HTML.match(start) else None


def looks_readable(name: str, head: bytes) -> bool:
    """Whether a file looks like text, or like a document that its first bytes tell.

    Args:
        name: its name, whose extension tells the compression.
        head: its first ``SNIFFED_BYTES``, compressed if the name says so.
    """
    try:
        start = decompressed_start(name, head, SNIFFED_BYTES)
        if kind_of(start) is None:
            decode(start)
    except SkipDocument:
        return False
    return True
