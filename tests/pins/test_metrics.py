"""Names and labels of the metrics, which dashboards and alerts rely on."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from retrieval.domain.records import ChunkSettings, IndexInfo, ModelIdentity
from retrieval.search import Timings
from retrieval.service.observability.metrics import Metrics

METRICS = {
    "retrieval_background_failures": "counter task",
    "retrieval_batch_texts": "histogram",
    "retrieval_index_documents": "gauge collection",
    "retrieval_index_failed_reloads": "counter collection",
    "retrieval_index_generation": "gauge collection",
    "retrieval_index_generation_age_seconds": "gauge collection",
    "retrieval_index_passages": "gauge collection",
    "retrieval_message_bytes": "gauge",
    "retrieval_query_cache": "counter outcome",
    "retrieval_queue_seconds": "histogram queue",
    "retrieval_queue_texts": "gauge",
    "retrieval_request_seconds": "histogram method",
    "retrieval_requests": "counter code method",
    "retrieval_requests_rejected": "counter limit reason",
    "retrieval_requests_under_way": "gauge",
    "retrieval_stage_seconds": "histogram stage",
    "retrieval_tokens": "counter kind",
}
"""Name → type and labels, in alphabetical order. A counter's name ends in ``_total`` besides."""

VALUES = {
    "stage": {"queue", "encode", "embed", "search", "fetch"},
    "queue": {"model", "search", "filter", "rerank"},
    "outcome": {"hit", "miss"},
    "kind": {"query"},
    "reason": {
        *("NOT_SERVING", "OVERLOADED", "PERMISSION_DENIED", "RATE_LIMITED", "TOO_SLOW"),
        "UNAUTHENTICATED",
    },
    "limit": {"", "concurrent_requests", "message_budget", "slow_messages"},
}
"""Label → the values that are shown from the start, or after one of each event."""

INFO = IndexInfo(
    generation=1,
    model=ModelIdentity("m", "folder", "/m", "", "f00d", 8, 16, "float32"),
    chunking=ChunkSettings(32, 4),
    documents=1,
    chunks=1,
    tokens=1,
    vectors=1,
    unused_vectors=0,
    segments=1,
    index_type="auto",
    target_recall=0.98,
    language="en",
    created_at="2024-05-01T10:00:00Z",
    updated_at="2024-05-01T10:00:00Z",
    index_id="0",
    commit_id="0",
)


@pytest.fixture(scope="module")
def shown() -> dict[str, tuple[str, list[dict[str, str]]]]:
    """Each metric's type and the labels of its samples, after one of each event."""
    metrics = Metrics()
    metrics.answered("SearchService/Search", "OK", 0.1)
    metrics.searched(Timings(0.1, 0.1, 0.1))
    metrics.waited(0.1)
    metrics.encoded("query", 1, 4, 0.1)
    metrics.looked_up(hits=1, misses=1)
    metrics.serves("default", INFO)
    metrics.has("default")
    metrics.supervises("watcher")
    text = generate_latest(metrics.registry).decode()
    return {
        family.name: (family.type, [sample.labels for sample in family.samples])
        for family in text_string_to_metric_families(text)
    }


@pytest.mark.parametrize("name", METRICS)
def test_a_metric(name: str, shown: dict[str, tuple[str, list[dict[str, str]]]]) -> None:
    kind, *labels = METRICS[name].split()
    shown_kind, samples = shown[name]
    names = {label for sample in samples for label in sample} - {"le"}
    assert (shown_kind, sorted(names)) == (kind, labels)
    for label in set(labels) & VALUES.keys():
        assert VALUES[label] <= {sample[label] for sample in samples}
