"""Containers: their members by the rules of files, and whatever a hostile one may hold."""

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from indexer.files import unpack as module
from indexer.files.discover import compile_patterns, discover
from indexer.files.unpack import Member, unpack
from indexer.parse.formats import format_of, open_container
from retrieval.domain.records import Skipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Made = tuple[dict[str, bytes], dict[str, tuple[str, str]]]


def members_of(path: Path, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Made:
    """Name → bytes, and name → reason and detail of what is skipped."""
    (source,) = discover([path]).files
    found, skipped = {}, {}
    for member in unpack(source, compile_patterns(include, exclude)):
        if isinstance(member, Skipped):
            assert member.root == source.root
            assert member.uri not in skipped
            skipped[member.uri.removeprefix(f"{path.name}/")] = (member.reason, member.detail)
        else:
            assert isinstance(member, Member)
            assert member.source.path == source.path
            assert member.source.container == source.uri
            assert member.source.size == len(member.data)
            found[member.source.uri.removeprefix(f"{path.name}/")] = member.data
    return found, skipped


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 2, 29, 12, 0, 0)), data)
    return buffer.getvalue()


def make_tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_tar_zst(files: dict[str, bytes]) -> bytes:
    return compress_zstd(make_tar(files))


def compress_zstd(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zstd.open(buffer, "wb") as file:
        file.write(data)
    return buffer.getvalue()


def make_7z(files: dict[str, bytes], **options: Any) -> bytes:
    py7zr = pytest.importorskip("py7zr")
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", **options) as archive:
        for number, data in enumerate(files.values()):
            archive.writestr(data, f"{number:03}")
        for file, name in zip(archive.files, files, strict=True):
            file._file_info["filename"] = name  # it refuses paths that lead out
    return buffer.getvalue()


FILES = {
    "a.md": b"# A\n",
    "deep/er/b.txt": b"b",
    "deep/.hidden.md": b"x",
    ".git/c.md": b"x",
    "__MACOSX/a.md": b"x",
    "image.png": b"x",
    "empty.md": b"",
    "a.md.meta.json": b"{}",
    "../up.md": b"x",
    "/root.md": b"x",
    "d/../../up.md": b"x",
    "notes.md.gz": gzip.compress(b"# packed"),
}
KEPT = {"a.md", "deep/er/b.txt", "notes.md.gz"}
REASONS = {
    "deep/.hidden.md": "hidden",
    ".git/c.md": "hidden",
    "__MACOSX/a.md": "hidden",
    "image.png": "unsupported format",
    "empty.md": "empty",
    "a.md.meta.json": "sidecar of nothing",
    "../up.md": "outside root",
    "root.md": "outside root",
    "d/../../up.md": "outside root",
}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.zip", make_zip),
        ("a.tar", make_tar),
        ("a.TAR.GZ", lambda files: make_tar(files, "w:gz")),
        ("a.tgz", lambda files: make_tar(files, "w:gz")),
        ("a.tar.bz2", lambda files: make_tar(files, "w:bz2")),
        ("a.tar.xz", lambda files: make_tar(files, "w:xz")),
        ("a.tar.zst", make_tar_zst),
        ("a.TZST", make_tar_zst),
        ("a.7z", make_7z),
    ],
)
def test_archives(tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]) -> None:
    (tmp_path / name).write_bytes(make(FILES))
    found, skipped = members_of(tmp_path / name)
    assert found == {name: FILES[name] for name in KEPT}
    assert {name: reason for name, (reason, _) in skipped.items()} == REASONS


def test_7z_archives_need_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.parse.formats.find_spec", lambda _: None)
    (tmp_path / "a.7z").write_bytes(b"x")
    (skipped,) = discover([tmp_path]).skipped
    assert skipped.detail == ".7z needs pip install 'gte-retrieval[archives]'"


def test_7z_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.files.unpack.MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "a.7z"
    texts = {f"{number}.md": f"text {number} ".encode() * 500 for number in range(100)}
    path.write_bytes(make_7z({**texts, "huge.md": bytes(2 << 20), "last.md": b"end"}))
    found, skipped = members_of(path)
    assert found == {**texts, "last.md": b"end"}
    assert skipped == {"huge.md": ("too large", "2097152 bytes, at most 1048576")}
    (source,) = discover([path]).files
    first = next(unpack(source, compile_patterns((), ())))
    assert isinstance(first, Member)
    assert first.source.mtime_ns > 1_700_000_000 * 10**9
    for options in ({"password": "x"}, {"password": "x", "header_encryption": True}):
        path.write_bytes(make_7z({"a.md": b"a"}, **options))
        assert members_of(path) == ({}, {"a.7z": ("encrypted", "")})


def test_damaged_7z_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.7z"
    intact = make_7z({f"{number}.md": random.Random(number).randbytes(999) for number in range(9)})
    for damaged in (b"7z", intact[:-20], intact[:500] + b"0123456789" + intact[510:], b"\0" * 99):
        path.write_bytes(damaged)
        _, skipped = members_of(path)
        assert skipped["a.7z"][0] == "damaged"


def test_what_a_7z_archive_unpacks_to_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.parse.sevenzip.MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "a.7z"
    path.write_bytes(make_7z({"a.md": b"a", "skipped.mp4": bytes(2 << 20), "b.md": b"b"}))
    found, skipped = members_of(path)
    assert found == {"a.md": b"a"}
    assert skipped["a.7z"] == ("over a limit", "more than 1048576 bytes unpacked")


def test_times_are_those_of_the_members(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(make_zip({"a.md": b"a"}))
    (tmp_path / "b.tar").write_bytes(make_tar({"a.md": b"a"}))
    zipped, tarred = discover([tmp_path]).files
    (member,) = unpack(zipped, compile_patterns((), ()))
    assert isinstance(member, Member)
    assert member.source.mtime_ns == 1_709_208_000 * 10**9
    (member,) = unpack(tarred, compile_patterns((), ()))
    assert isinstance(member, Member)
    assert member.source.mtime_ns == 1_700_000_000 * 10**9


def test_patterns_see_containers_as_folders(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(make_zip({"a.md": b"a", "x/b.txt": b"b", "x/c.md": b"c"}))
    assert set(members_of(path, include=("*.md",))[0]) == {"a.md", "x/c.md"}
    found, skipped = members_of(path, exclude=("x/",))
    assert set(found) == {"a.md"}
    assert skipped["x/c.md"] == ("excluded", "matches an exclude pattern")


def test_links_and_devices_and_locked_members(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link.md")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        device = tarfile.TarInfo("zero.md")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    problem = ("not a regular file", "a link or a device")
    assert members_of(tmp_path / "a.tar") == ({}, {"link.md": problem, "zero.md": problem})

    info = zipfile.ZipInfo("link.md")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as packed:
        packed.writestr(info, "/etc/passwd")
        packed.writestr("locked.md", "text")
    data = bytearray(buffer.getvalue())
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.rindex(mark) + offset] |= 1  # says that the last one is encrypted
    (tmp_path / "b.zip").write_bytes(data)
    assert members_of(tmp_path / "b.zip")[1] == {
        "link.md": ("not a regular file", "a link"),
        "locked.md": ("encrypted", ""),
    }


def test_containers_in_containers(tmp_path: Path) -> None:
    data, name = b"# deep", "deep.md"
    for level in range(4):
        data, name = make_zip({name: data, f"{level}.md": b"x"}), f"{level}.zip"
    path = tmp_path / "top.zip"
    path.write_bytes(data)
    found, skipped = members_of(path)
    assert set(found) == {"3.md", "2.zip/2.md", "2.zip/1.zip/1.md"}
    assert skipped == {"2.zip/1.zip/0.zip": ("over a limit", "containers are 3 deep at most")}


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, bz2.compress, lzma.compress])
def test_mailboxes(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    text = (
        b"From a@b Sat Jan  1 00:00:00 2000\nSubject: one\n\n>From the start\nFrom here\n\n"
        b"From c@d Sat Jan  1 00:00:00 2000\nSubject: two\n\nbody\n"
    )
    suffix = {b"\x1f": ".gz", b"B": ".bz2", b"\xfd": ".xz"}.get(pack(text)[:1], "")
    path = tmp_path / f"in.mbox{suffix}"
    path.write_bytes(pack(text))
    assert list(open_container(path.name, path.open("rb")))[1].read().startswith(b"Subject: two")
    first, second = open_container(path.name, path.open("rb"))
    assert first.read() == b"Subject: one\n\nFrom the start\nFrom here\n\n"
    assert (first.name, second.name) == ("1.eml", "2.eml")


def test_files_attached_to_messages(tmp_path: Path) -> None:
    inner = EmailMessage()
    inner["Subject"] = "Inner"
    inner.add_attachment("deep", filename="deep.txt")
    message = EmailMessage()
    message["Subject"] = "Outer"
    message.add_attachment("one", filename="one.md")
    message.add_attachment(b"\0\1", maintype="image", subtype="x-no", filename="two.exe")
    message.add_attachment(
        make_zip({"c.md": b"c"}), maintype="application", subtype="zip", filename="three.zip"
    )
    message.add_attachment(
        bytes(inner), maintype="application", subtype="octet-stream", filename="four.eml"
    )
    names = ["one.md", "three.zip/c.md", "four.eml", "four.eml/deep.txt"]
    (tmp_path / "a.eml").write_bytes(bytes(message))
    found, skipped = members_of(tmp_path / "a.eml")
    assert [*found] == names
    assert skipped == {"two.exe": ("unsupported format", ".exe")}
    (tmp_path / "b.mbox").write_bytes(b"From x\n" + bytes(message))
    found, _ = members_of(tmp_path / "b.mbox")
    assert [*found] == ["1.eml", *(f"1.eml/{name}" for name in names)]
    (tmp_path / "c.zip").write_bytes(make_zip({"d.zip": make_zip({"a.eml": bytes(message)})}))
    found, skipped = members_of(tmp_path / "c.zip")
    assert "d.zip/a.eml/four.eml" in found
    assert skipped["d.zip/a.eml/three.zip"] == ("over a limit", "containers are 3 deep at most")


def test_a_message_that_is_none_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"no header")
    assert members_of(tmp_path / "a.eml") == ({}, {})


def test_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.parse.containers.MAX_LINE_BYTES", 20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + b"[" * 50 + b'\n{"text": "b"}')
    found = list(open_container(path.name, path.open("rb")))
    assert [(entry.name, bool(entry.problem)) for entry in found] == [
        ("1.json", False), ("3.json", True), ("4.json", False),
    ]  # fmt: skip
    assert found[2].read() == b'{"text": "b"}'


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(make_zip({f"{n}.md": b"x" * 100 for n in range(5)}))
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", 250)
    found, skipped = members_of(path)
    assert len(found) == 2
    assert skipped == {"a.zip": ("over a limit", "more than 250 bytes unpacked")}
    monkeypatch.setattr(module, "MAX_MEMBERS", 1)
    found, skipped = members_of(path)
    assert len(found) == 1
    assert skipped == {"a.zip": ("over a limit", "more than 1 members")}


def test_a_bomb_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "a.zip"
    path.write_bytes(make_zip({"bomb.md": bytes(50 << 20), "fine.md": b"x"}))
    found, skipped = members_of(path)
    assert set(found) == {"fine.md"}
    assert skipped["bomb.md"][0] == "too large"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", make_zip(FILES)),
        ("a.tar", make_tar(FILES)),
        ("a.tar.gz", make_tar(FILES, "w:gz")),
        ("a.tar.bz2", make_tar(FILES, "w:bz2")),
        ("a.tar.xz", make_tar(FILES, "w:xz")),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 50, mtime=0)),
        ("a.mbox.xz", lzma.compress(b"From a\nSubject: one\n\ntext\n\n" * 50)),
    ],
    # The bytes hold the time of their making, and processes of one run must have the same tests.
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_damage_is_told_and_nothing_else_happens(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    chance = random.Random(name)
    told = 0
    for _ in range(150):
        broken = bytearray(data)
        if chance.random() < 0.4:
            del broken[chance.randrange(1, len(broken)) :]
        for _ in range(chance.randrange(4)):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        found, skipped = members_of(path)
        told += any(reason == "damaged" for reason, _ in skipped.values())
        assert found or skipped or name.endswith((".tar", "l.gz", "x.xz"))
    assert told > 10


def test_kinds() -> None:
    assert _key("A.ZIP") == "zip"
    assert _key("a.mbox.gz") == "mbox"
    assert _key("a.zip.gz") == ""
    assert _key("a.md.gz") == "markdown"
    assert _key("a.tar") == _key("a.tar.gz") == _key("a.v1.TGZ") == "tar"


def _key(name: str) -> str:
    format_ = format_of(name)
    return format_.key if format_ else ""


def test_a_zip_file_that_leads_before_its_beginning_is_damaged(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.md", "text")
    data = bytearray(stream.getvalue())
    place = len(data) - 6  # of the directory, as the end of the file has it
    data[place : place + 4] = (int.from_bytes(data[place : place + 4], "little") + 999).to_bytes(
        4, "little"
    )
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    _, skipped = members_of(path)
    assert {reason for reason, _ in skipped.values()} == {"damaged"}
