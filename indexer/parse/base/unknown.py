"""Files whose name tells no format: which are never text, and which look like it."""

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
    """Whether a file whose name tells no format may be text; its content decides."""
    extension = PurePosixPath(without_compression(name)).suffix.lower()
    # Editors put a tilde after the name of the copy that they keep.
    return not (extension in NOT_TEXT or name.endswith("~") or is_library(name))


def is_library(name: str) -> bool:
    """Whether a file is a shared library with a version, such as ``libz.so.1``."""
    return ".so." in name.lower()


def looks_like_text(name: str, head: bytes) -> bool:
    """Whether a file looks like text.

    Args:
        name: its name, whose extension tells the compression.
        head: its first ``SNIFFED_BYTES``, compressed if the name says so.
    """
    try:
        decode(decompressed_start(name, head, SNIFFED_BYTES))
    except SkipDocument:
        return False
    return True
