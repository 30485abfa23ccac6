"""Small compound files ([MS-CFB]), and minimal DOC, PPT, XLS and MSG files in them."""

import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

SECTOR = 512
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
SMALLEST = 4096
"""Shorter streams would be kept otherwise; they are padded."""


def make_compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file of a few streams; a name may have a folder before each slash."""
    padded = {name: data.ljust(SMALLEST, b"\0") for name, data in streams.items()}
    folders = {
        "/".join(name.split("/")[:depth]) for name in padded for depth in range(name.count("/") + 1)
    }
    numbers = {path: number for number, path in enumerate(["", *sorted(folders - {""}), *padded])}
    inside: dict[str, list[str]] = {}
    for path in numbers:
        if path:
            inside.setdefault(path.rpartition("/")[0], []).append(path)
    after = {
        path: numbers[following] for paths in inside.values() for path, following in pairwise(paths)
    }
    entries: list[bytes] = []
    sectors: list[bytes] = []
    chain: list[int] = []
    for path in numbers:
        name, right = path.rpartition("/")[2] or "Root Entry", after.get(path, FREE)
        if path not in padded:
            child = numbers[inside[path][0]] if path in inside else FREE
            kind, start = (1, 0) if path else (5, END)
            entries.append(_entry(name, kind, start, 0, right=right, child=child))
            continue
        data, start = padded[path], len(sectors)
        count = -(-len(data) // SECTOR)
        chain += [*range(start + 1, start + count), END]
        sectors += [
            data[at : at + SECTOR].ljust(SECTOR, b"\0") for at in range(0, len(data), SECTOR)
        ]
        entries.append(_entry(name, 2, start, len(data), right=right))
    while len(entries) % 4:
        entries.append(bytes(64) + struct.pack("<HBBIII", 0, 0, 1, FREE, FREE, FREE) + bytes(48))
    directory = len(sectors)
    count = len(entries) // 4
    chain += [*range(directory + 1, directory + count), END]
    sectors += [b"".join(entries[at : at + 4]) for at in range(0, len(entries), 4)]
    tables = 1
    while (len(sectors) + tables) > tables * SECTOR // 4:
        tables += 1
    first = len(sectors)
    chain += [FAT] * tables
    table = struct.pack(f"<{len(chain)}I", *chain).ljust(tables * SECTOR, b"\xff")
    places = [*range(first, first + tables), *[FREE] * (109 - tables)]
    header = struct.pack(
        "<8s16sHHHHH6xIIIIIIIII109I",
        bytes.fromhex("d0cf11e0a1b11ae1"), b"", 0x3E, 3, 0xFFFE, 9, 6,
        0, tables, directory, 0, SMALLEST, END, 0, END, 0, *places,
    )  # fmt: skip
    return header + b"".join(sectors) + table


def _entry(
    name: str, kind: int, start: int, size: int, *, right: int = FREE, child: int = FREE
) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    return struct.pack(
        "<64sHBBIII16xI8x8xIQ", text, len(text), kind, 1, FREE, right, child, 0, start, size
    )


def sprm(number: int, value: bytes) -> bytes:
    return struct.pack("<H", number) + value


HIDDEN = sprm(0x083C, b"\1")
DELETED = sprm(0x0800, b"\1")
IN_TABLE = sprm(0x2416, b"\1")
ROW_END = IN_TABLE + sprm(0x2417, b"\1")
ITEM = sprm(0x260A, b"\1") + sprm(0x460B, b"\1\0")
DROP_CAP = sprm(0x442C, b"\x19\0")
HEADING_1, TITLE, GHOST = 1, 2, 3
"""Numbers of styles; 0 is that of body text."""

Part = tuple[str, int, bytes, bytes]
"""Text of a paragraph or run, its style, and what is said of the paragraph and of the run."""


def make_doc(
    parts: Sequence[Part],
    notes: Sequence[str] = (),
    places: Sequence[int] = (),
    *,
    flags: int = 0,
    eight_bit: bool = False,
) -> bytes:
    """A DOC file.

    Args:
        parts: runs of the body; each is its own paragraph in what is said of paragraphs.
        notes: footnotes.
        places: where the body refers to them.
        flags: of the header.
        eight_bit: whether a character is a byte.
    """
    width, encoding = (1, "cp1252") if eight_bit else (2, "utf-16-le")
    start = 0x800
    body = "".join(text for text, *_ in parts)
    foot = "".join(f"\x02 {note}\r" for note in notes)
    text = body + foot
    data = text.encode(encoding)
    lengths = [len(text.encode(encoding)) // width for text, *_ in parts]
    edges = [start + width * at for at in accumulate(lengths, initial=0)]
    pages = -(-(start + len(data)) // SECTOR)
    characters = _page(edges, 1, [_counted(run) for *_, run in parts])
    paragraphs = _page(
        edges, 13, [_paired(struct.pack("<H", style) + said) for _, style, said, _ in parts]
    )
    document = bytearray(start) + data
    document = document.ljust(pages * SECTOR, b"\0") + characters + paragraphs

    total = len(data) // width
    offset = (start * 2) | 0x40000000 if eight_bit else start
    plex = struct.pack("<II", 0, total) + struct.pack("<HIH", 0, offset, 0)
    table = bytearray()

    def add(at: int, piece: bytes) -> None:
        struct.pack_into("<II", document, at, len(table), len(piece))
        table.extend(piece)

    struct.pack_into("<HH", document, 0, 0xA5EC, 0xC1)
    struct.pack_into("<H", document, 0x0A, flags | 0x0200)
    struct.pack_into("<8I", document, 0x4C, sum(lengths), len(foot), 0, 0, 0, 0, 0, 0)
    add(0xA2, _style_sheet())
    if places:
        add(0xAA, struct.pack(f"<{len(places) + 1}I", *places, total) + bytes(2 * len(places)))
    add(0xFA, struct.pack("<III", edges[0], edges[-1], pages))
    add(0x102, struct.pack("<III", edges[0], edges[-1], pages + 1))
    add(0x1A2, b"\x01\x02\x00ab" + b"\x02" + struct.pack("<I", len(plex)) + plex)
    return make_compound({"WordDocument": bytes(document), "1Table": bytes(table)})


def _counted(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _paired(data: bytes) -> bytes:
    data += bytes((len(data) + 1) % 2)
    return bytes([(len(data) + 1) // 2]) + data


def _page(edges: Sequence[int], size: int, values: Sequence[bytes]) -> bytes:
    """A page of formatting."""
    count = len(values)
    page = bytearray(SECTOR)
    struct.pack_into(f"<{count + 1}I", page, 0, *edges)
    at = SECTOR - 2
    for number, value in enumerate(values):
        at = (at - len(value)) & ~1
        page[at : at + len(value)] = value
        page[(count + 1) * 4 + number * size] = at // 2
    assert at >= (count + 1) * 4 + count * size, "too many parts for one page"
    page[-1] = count
    return bytes(page)


def _style_sheet() -> bytes:
    def style(identity: int, base: int, text: bytes = b"") -> bytes:
        name = "x"
        data = struct.pack("<HHHHH", identity, 1 | base << 4, 2, 0, 0)
        data += struct.pack("<H", len(name)) + name.encode("utf-16-le") + b"\0\0"
        data += struct.pack("<HH", 2, 0) + struct.pack("<H", len(text)) + text
        return struct.pack("<H", len(data)) + data + bytes(len(data) % 2)

    styles = [style(0, 0xFFF), style(1, 0), style(62, 0), style(0xFFE, 0, HIDDEN)]
    header = struct.pack("<HH", len(styles), 10) + bytes(14)
    return struct.pack("<H", len(header)) + header + b"".join(styles)


def record(kind: int, content: bytes = b"", instance: int = 0, container: bool = False) -> bytes:
    head = instance << 4 | (0xF if container else 0)
    return struct.pack("<HHI", head, kind, len(content)) + content


Box = tuple[str, int, int, int]
"""Text, its kind, distance from the top and from the left."""
PICTURE = -1
"""Kind of a box that is a picture, with its alternative text."""


def make_ppt(
    slides: Sequence[Sequence[Box]], notes: Sequence[str] = (), encrypted: bool = False
) -> bytes:
    """A PPT file of slides with boxes; titles are only in the outline."""
    stream = b""
    offsets: list[int] = []

    def add(data: bytes) -> int:
        nonlocal stream
        offsets.append(len(stream))
        stream += data
        return len(offsets)

    def persist(reference: int, identity: int) -> bytes:
        return record(0x03F3, struct.pack("<IIIII", reference, 0, 0, identity, 0))

    def text(words: str, kind: int) -> bytes:
        atom = (
            record(0x0FA8, words.encode("latin-1"))
            if words.isascii()
            else record(0x0FA0, words.encode("utf-16-le"))
        )
        return record(0x0F9F, struct.pack("<I", kind)) + atom

    lists = {0: b"", 2: b""}
    for number, boxes in enumerate(slides):
        outline = b""
        shapes = b""
        for words, kind, top, left in boxes:
            anchor = record(0xF010, struct.pack("<hhhh", top, left, left + 100, top + 50))
            if kind == 0:
                inside = record(0x0F9E, struct.pack("<I", 0))
                outline += text(words, kind)
            elif kind == PICTURE:
                name, said = (f"{one}\0".encode("utf-16-le") for one in ("Picture 1", words))
                values = struct.pack("<HIHIHI", 0x104, 1, 0xC380, len(name), 0xC381, len(said))
                anchor += record(0xF00B, values + name + said, instance=3)
                inside = b""
            else:
                inside = text(words, kind)
            shapes += record(
                0xF004, anchor + record(0xF00D, inside, container=True), container=True
            )
        drawing = record(0x040C, record(0xF002, shapes, container=True), container=True)
        lists[0] += persist(add(record(0x03EE, drawing, container=True)), 256 + number) + outline
    for number, words in enumerate(notes):
        inside = record(0xF00D, text(words, 2), container=True)
        drawing = record(0x040C, record(0xF004, inside, container=True), container=True)
        atom = record(0x03F1, struct.pack("<II", 256 + number, 0))
        lists[2] += persist(add(record(0x03F0, atom + drawing, container=True)), 0)
    body = b"".join(
        record(0x0FF0, content, instance, container=True) for instance, content in lists.items()
    )
    add(record(0x03E8, body, container=True))
    directory = struct.pack("<I", len(offsets) << 20 | 1) + struct.pack(
        f"<{len(offsets)}I", *offsets
    )
    stream += record(0x1772, directory)
    token = 0xF3D1C4DF if encrypted else 0xE391C05F
    user = record(0x0FF6, struct.pack("<III", 20, token, 0))
    return make_compound({"PowerPoint Document": stream, "Current User": user})


def make_xls(
    cells: Sequence[tuple[int, int, float]], password: bool = False, dimensions: bytes = b""
) -> bytes:
    """An XLS file of one sheet with numbers: row, column and value of each."""

    def biff(kind: int, data: bytes = b"") -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    def begin(kind: int) -> bytes:
        return biff(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 0, 0, 0))

    head = begin(0x0005) + (biff(0x2F, bytes(6)) if password else b"")
    sized = biff(0x0200, dimensions) if dimensions else b""
    sheet = (
        begin(0x0010)
        + sized
        + b"".join(
            biff(0x0203, struct.pack("<HHHd", row, column, 0, value))
            for row, column, value in cells
        )
    )
    name = biff(0x85, struct.pack("<IBBBB", len(head) + 13 + 4, 0, 0, 1, 0) + b"S")
    name_size = len(name)
    name = biff(0x85, struct.pack("<IBBBB", len(head) + name_size + 4, 0, 0, 1, 0) + b"S")
    return make_compound({"Workbook": head + name + biff(0x0A) + sheet + biff(0x0A)})


def make_small_doc() -> bytes:
    """A DOC file with a heading and a paragraph."""
    text = "They need water to swim in and a dry place to sleep, and they need company.\r"
    return make_doc([("Of Ducks\r", HEADING_1, b"", b""), (text, 0, b"", b"")])


def make_small_ppt() -> bytes:
    """A PPT file of two slides."""
    text = "They need water to swim in and a dry place to sleep, and they need company."
    return make_ppt([[("Of Ducks", 0, 0, 0), (text, 1, 500, 0)], [("The end", 4, 0, 0)]])


Properties = Mapping[str, str | bytes]
"""Number of a property, in hexadecimal, to its value."""


def make_msg(
    texts: Properties,
    numbers: Mapping[int, int] = {},
    attachments: Sequence[Mapping[str, bytes]] = (),
    *,
    header: int = 32,
) -> dict[str, bytes]:
    """Streams of a message of Outlook; attachments are the streams in their folders."""
    streams = {
        "__properties_version1.0": bytes(header)
        + b"".join(struct.pack("<HHIQ", 3, key, 0, value) for key, value in numbers.items())
    }
    for key, value in texts.items():
        if isinstance(value, str):
            streams[f"__substg1.0_{key}001F"] = value.encode("utf-16-le")
        else:
            streams[f"__substg1.0_{key}"] = value
    for number, inner in enumerate(attachments):
        folder = f"__attach_version1.0_#{number:08X}"
        streams |= {f"{folder}/{name}": data for name, data in inner.items()}
    return streams
