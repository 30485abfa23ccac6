"""The figures of scale-out.md follow from measurements that other pages have."""

import re
import sys
from pathlib import Path

import pytest

from retrieval.encoding.model_cards import MODEL_CARDS
from retrieval.store.disk.vectors.vector_index import EXACT_ROWS
from retrieval.store.lake.vectors.making import MAX_LISTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import sizing  # noqa: E402

PAGES = {
    name: " ".join((DOCS / f"{name}.md").read_text(encoding="utf-8").split())
    for name in ("benchmarks", "operations", "scale-out", "decisions/0043-codes-in-lance")
}


@pytest.mark.parametrize(
    ("page", "text", "figure"),
    [
        ("benchmarks", r"\| chunks \| [\d,]+ \| ([\d,]+) \|", 63_291),
        ("benchmarks", r"\| tokens \| [\d,]+ \| ([\d,]+) \|", 63_291 * sizing.TOKENS),
        (
            "benchmarks",
            r"\| built in \| ([\d.]+) minutes \|",
            sizing.INDEX_CORE_SECONDS * 1e7 / 120,
        ),
        ("benchmarks", r"(\d+) bytes a vector", sizing.CODE_BYTES),
        ("benchmarks", r"\(1.2 MB, ([\d,]+) passages\)", 1_643),
        (
            "benchmarks",
            r"start of the process \| ([\d.]+) s",
            sizing.EMBED_CORE_SECONDS * 1_643 / 2,
        ),
        ("decisions/0043-codes-in-lance", r"about (\d+) bytes a vector", sizing.TABLE_CODE_BYTES),
        (
            "decisions/0043-codes-in-lance",
            r"\| 1,024 \| (\d+) s \|",
            sizing.TABLE_INDEX_CORE_SECONDS,
        ),
        ("operations", r"(\d+) MB for 40,000 passages", sizing.WORD_BYTES * 40_000 / 1e6),
        ("operations", r"passages of (\d+) characters", sizing.TEXT_BYTES),
    ],
)
def test_each_figure_is_where_it_is_said_to_be(page: str, text: str, figure: float) -> None:
    assert figure in [
        pytest.approx(float(found.replace(",", ""))) for found in re.findall(text, PAGES[page])
    ]


def test_constants_are_those_of_the_code() -> None:
    assert MODEL_CARDS["mini-gte-en-v1"].dim == sizing.DIM
    assert sizing.EXACT_ROWS == EXACT_ROWS
    assert sizing.MAX_LISTS == MAX_LISTS


def test_the_arithmetic() -> None:
    most = sizing.Needs(10**9)
    assert most.vector_bytes == 1_536 * 10**9
    assert most.code_bytes == 66 * 10**9
    assert most.disk_bytes == pytest.approx(3.0e12, rel=0.01)
    assert most.embed_core_hours == pytest.approx(12_748, rel=0.001)
    assert most.gpu_hours == pytest.approx((26.1, 87.1), rel=0.01)
    assert most.table_index_core_hours == pytest.approx(104.4, rel=0.01)
    assert sizing.Needs(1000).code_bytes == sizing.Needs(50_000).table_index_core_hours == 0


def test_what_the_page_says_beside_the_table() -> None:
    page = PAGES["scale-out"]
    assert sizing.table() in (DOCS / "scale-out.md").read_text(encoding="utf-8")
    assert (
        f"{sizing.TABLE_CODE_BYTES} bytes a passage for it instead of {sizing.CODE_BYTES}," in page
    )
    assert round(sizing.Needs(10**7).embed_core_hours / 128) == 1
    assert round(sizing.Needs(10**9).embed_core_hours / 128 / 24) == 4
    assert "128 cores embed ten million passages in an hour, and a thousand million in four" in page
    assert f"up to {sizing.MAX_LISTS:,}, and" in page
    requests = 2 * 30 * 24 * 3600 / 10  # a list and a manifest
    assert f"{round(requests, -4):,.0f} requests a month" in page
