"""Encoded data: what counts as it, and what doesn't; the time that looking for it takes."""

import base64
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chunking.encoded import MIN_DATA_URI_CHARS, MIN_RUN_CHARS, encoded_ranges
from retrieval.domain.embedded_text import without

RANDOM = random.Random(7)
DATA = RANDOM.randbytes(3_000)
BASE64 = base64.b64encode(DATA).decode()
FOR_URLS = base64.urlsafe_b64encode(DATA[:300]).decode()
LINES = base64.encodebytes(DATA[:500]).decode()
ENCODED_TEXT = base64.b64encode(b"A sentence that somebody has encoded, for whatever reason. " * 3)
QUOTED = '",\n    b"'.join(LINES.split())


def seen(text: str) -> str:
    """The text without encoded data."""
    ranges = sorted(encoded_ranges(text))
    apart = [one for n, one in enumerate(ranges) if n == 0 or one[0] >= ranges[n - 1][1]]
    return without(text, apart)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (f"![pump](data:image/png;base64,{BASE64})", "![pump]()"),
        (f"[logo]: <data:image/svg+xml;charset=utf-8;base64,{BASE64}>", "[logo]: <>"),
        (f'<img src="data:image/gif;base64,{BASE64[:90]}" alt="dot">', '<img src="" alt="dot">'),
        (
            "url(\"data:image/svg+xml,%3Csvg viewBox='0 0 4 5'%3E" + "%3C/g%3E" * 9 + '") x',
            'url("") x',
        ),
        (f"url(data:font/woff2,{'%00' * 40}) x", "url() x"),
        (
            f"See https://play.example.org/#{FOR_URLS} for it.",
            "See https://play.example.org/# for it.",
        ),
        (f"key: {BASE64}\nnext: word", "key: \nnext: word"),
        (f"key: {ENCODED_TEXT.decode()}\nnext", "key: \nnext"),
        (
            f"-----BEGIN CERTIFICATE-----\n{LINES}-----END CERTIFICATE-----\nIt ends.",
            "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\nIt ends.",
        ),
        (f"a:\n  {LINES.replace(chr(10), chr(10) + '  ')}b: word", "a:\n  \n  b: word"),
        (f"> {LINES.replace(chr(10), chr(10) + '> ')}Regards", "> \n> Regards"),
        (f'x = [b"{QUOTED}"]', 'x = [b""]'),
        (BASE64.replace("+", "%2B").replace("/", "%2F"), ""),
    ],
)
def test_encoded_data(text: str, rest: str) -> None:
    assert seen(text) == rest


@pytest.mark.parametrize(
    "text",
    [
        DATA[:200].hex(),
        DATA[:200].hex().upper(),
        "\n".join(DATA[at : at + 32].hex() for at in range(0, 320, 32)),
        "".join(RANDOM.choices("ACGT", k=600)),
        "\n".join("".join(RANDOM.choices("ACGT", k=60)) for _ in range(9)),
        "acgt" * 40 + "ACGT" * 40,
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 4,
        "getUserNameFromDatabaseOrFail" * 9,
        "_ZNSt6vectorIN4llvm12DenseMapBaseINS0_8SmallMapIPNS0_4TypeEjLj4EEES3_jNS0_12DenseMapInfo"
        "IS3_vEEEEE16reserveForInsertERKS5_RKNSt3__112basic_stringIcNS_11char_traitsIcEE",
        "/usr/Lib/python3/dist-packages/Some_Module2/sub_module/Tests/test_file_" * 4,
        "https://example.com/2024/05/12/" + "This-Is-A-Long-Title-About-Python3-" * 5,
        "https://ru.example.org/wiki/"
        + "".join(f"%{byte:02X}" for byte in "Санкт-Петербург".encode()) * 4,
        "/".join(["550e8400-e29b-41d4-a716-446655440000"] * 8),
        "日本語の文章は単語の間に空白を置きません。" * 40,
        "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 30,
        "function a(b,c){return b&&c?d(b.e,c.f):g[h]}" * 40,
        "word\n" * 400,
        "Titl" * 40,
        "ab1C" * 400,
        "-" * 500,
        "=" * 500,
        "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
        "data:,Hello data:text/plain;base64,SGVsbG8= data:text/html,<p>Hello</p>",
        f"data:text/plain,{'Hello%20' * 40}",
        f"metadata:image/png,{'word/' * 40}",
    ],
)
def test_what_is_not_encoded_data(text: str) -> None:
    assert list(encoded_ranges(text)) == []
    assert list(encoded_ranges(f"Before it {text} and after it")) == []


@given(
    st.integers(0, 200), st.integers(MIN_RUN_CHARS, 400), st.sampled_from(("word ", "word\n", "a("))
)
def test_the_place_of_a_run_does_not_matter(before: int, length: int, word: str) -> None:
    text = word * before + BASE64[:length] + ") and so on"
    assert seen(text) == word * before + ") and so on"


@given(st.text(alphabet="aZ0+/=%-_ \n\r\\\"'>b", max_size=600))
def test_ranges_are_within_the_text(text: str) -> None:
    for start, end in encoded_ranges(f"{BASE64[:70]}{text}{BASE64[:140]}data:image/png,{text}"):
        assert start >= 0
        assert end - start >= min(MIN_DATA_URI_CHARS, MIN_RUN_CHARS)


@pytest.mark.parametrize(
    "piece",
    [
        "A", "aB3", "data:", '"data:image/png,', "data:image/png;base64,A", f"{BASE64[:41]}\n",
        f"{'A' * 41}\n", f'{"A" * 41}"', "%2F\n", f"{'a' * 64} ", f"{'A' * 200}\nword\n",
    ],
)  # fmt: skip
def test_time_is_linear(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        started = time.process_time()
        assert sum(1 for _ in encoded_ranges(text)) <= length
        return time.process_time() - started

    seconds(10_000)
    assert seconds(1_600_000) < 100 * max(seconds(100_000), 0.002)
