"""What is seen of requests: metrics, log lines, traces, ids."""

import json
import logging
import re
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import grpc
import pytest
import trustme
import yaml  # type: ignore[import-untyped]
from grpc._cython import cygrpc
from prometheus_client.parser import text_string_to_metric_families

from indexer.ingest.front.metrics import IngestMetrics
from retrieval.client import RetrievalClient, Tls
from retrieval.errors import AddressInUse, InvalidArgument, ServiceError
from retrieval.service.access.token_file import create_token
from retrieval.service.config import Address, ServiceConfig, TlsFiles
from retrieval.service.observability.metrics import Metrics
from retrieval.service.observability.observer import Tracer, take_request_id
from retrieval.service.observability.request_log import (
    JsonFormatter,
    set_up_logging,
)
from retrieval.v1 import search_service_pb2 as pb
from retrieval.v1.search_service_pb2_grpc import SearchServiceStub
from tests.service.harness import Program, RunningServer, running, wait_until


def numbers(server: RunningServer) -> dict[tuple[str, ...], float]:
    """Every sample that the server shows: (name, values of its labels by their names…) → value."""
    assert server.server._metrics_server is not None
    url = f"http://127.0.0.1:{server.server._metrics_server.server_port}/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(index: Path, other_index: Path) -> None:
    metrics = Address("127.0.0.1", 0)
    with running({"default": index, "tea": other_index}, metrics=metrics) as server:
        with RetrievalClient(server.target) as client:
            client.search("bread")
            client.search("bread")
            client.search_batch(["ferry", "violin"])
            client.embed(["a passage"], "passage")
            with pytest.raises(ServiceError):
                client.search("bread", collection="no-such")
        # A request is under way until its last byte is sent, a moment after the client has it.
        wait_until(lambda: numbers(server)["retrieval_requests_under_way",] == 0)
        seen = numbers(server)
    assert seen["retrieval_requests_total", "OK", "SearchService/Search"] == 2
    assert seen["retrieval_requests_total", "NOT_FOUND", "SearchService/Search"] == 1
    assert seen["retrieval_request_seconds_count", "SearchService/Search"] == 3
    assert seen["retrieval_query_cache_total", "hit"] == 1
    assert seen["retrieval_query_cache_total", "miss"] == 3
    assert seen["retrieval_stage_seconds_count", "search"] == 4
    assert seen["retrieval_stage_seconds_count", "queue"] == 3
    # The two texts of the batch go together, or side by side on two cores.
    assert seen["retrieval_stage_seconds_count", "encode"] in (3, 4)
    assert seen["retrieval_batch_texts_sum",] == 4
    assert seen["retrieval_tokens_total", "query"] >= 3 * 3
    assert seen["retrieval_tokens_total", "passage"] >= 4
    assert seen["retrieval_index_generation", "tea"] >= 1
    assert seen["retrieval_index_documents", "tea"] == 1
    assert seen["retrieval_index_passages", "default"] == 40
    assert seen["retrieval_queue_texts",] == 0
    assert seen["process_resident_memory_bytes",] > 1e7


def test_the_port_of_metrics_is_free_again_and_said_when_taken(index: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        with (
            pytest.raises(AddressInUse, match="--metrics"),
            running({"default": index}, metrics=address),
        ):
            pass
    with running({"default": index}, metrics=address):
        pass
    with running({"default": index}, metrics=address):
        pass
    with pytest.raises(InvalidArgument, match="--metrics-insecure"):
        ServiceConfig({"default": index}, metrics=Address("0.0.0.0", 1))


def test_labels_are_bounded(index: Path) -> None:
    """A stranger can't fill memory with names of methods that are not there."""
    with running({"default": index}, metrics=Address("127.0.0.1", 0)) as server:
        with grpc.insecure_channel(server.target) as channel:
            call = channel.unary_unary("/retrieval.v1.SearchService/NoSuchMethod")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert not any("NoSuchMethod" in label for name in numbers(server) for label in name)


def test_every_request_has_an_id(server: RunningServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        search = SearchServiceStub(channel).Search
        good = pb.SearchRequest(collection="collections/default", text="bread")
        _, call = search.with_call(good, metadata=[("x-request-id", "mine-1")], timeout=60)
        assert ("x-request-id", "mine-1") in call.trailing_metadata()
        _, call = search.with_call(good, timeout=60)
        (made,) = [value for key, value in call.trailing_metadata() if key == "x-request-id"]
        assert len(made) == 16
        with pytest.raises(grpc.RpcError) as caught:
            search(pb.SearchRequest(), metadata=[("x-request-id", "mine-2")], timeout=60)
        trailing = caught.value.trailing_metadata()
        assert ("x-request-id", "mine-2") in trailing
        assert "grpc-status-details-bin" in dict(trailing)


@pytest.mark.parametrize("given", ["", "x" * 129, "a\nb", "ä", "\x1b[2J"])
def test_an_id_that_could_harm_a_log_is_replaced(given: str) -> None:
    taken = take_request_id([("x-request-id", given)])
    assert taken != given
    assert len(taken) == 16


def lines_of(stderr: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in stderr.splitlines()]


def test_the_log_is_json_and_keeps_queries_to_itself(index: Path) -> None:
    program = Program("--index", str(index), "--listen", "127.0.0.1:0")
    program.wait_ready()
    with RetrievalClient(program.target) as client:
        client.search("a secret question")
        with pytest.raises(ServiceError):
            client.search("another secret", k=100_000)
    code, _stdout, stderr = program.finish(signal.SIGTERM)
    assert code == 0
    entries = [entry for entry in lines_of(stderr) if "method" in entry]
    assert [entry["code"] for entry in entries] == ["OK", "INVALID_ARGUMENT"]
    for entry in entries:
        assert entry["method"] == "SearchService/Search"
        assert entry["level"] == "INFO"
        assert isinstance(entry["milliseconds"], float)
        assert len(str(entry["request_id"])) == 16
    assert "page_size" in str(entries[1]["detail"])
    assert "secret" not in stderr


def test_a_debugger_sees_queries_and_people_see_lines(index: Path) -> None:
    program = Program(
        "--index", str(index), "--listen", "127.0.0.1:0", "--log-level", "debug",
        "--log-format", "text",
    )  # fmt: skip
    program.wait_ready()
    with RetrievalClient(program.target) as client:
        client.search("a secret question")
    _code, _stdout, stderr = program.finish(signal.SIGTERM)
    assert "searched 'a secret question'" in stderr
    assert " INFO SearchService/Search " in stderr


def test_an_exception_is_one_line_of_json() -> None:
    error = ValueError("two\nlines")
    raised = (ValueError, error, None)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "it %s", ("failed",), raised)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == "it failed"
    assert entry["exception"].endswith("two\nlines")


def test_a_client_that_went_away_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    root, grpc_log = logging.getLogger(), logging.getLogger("grpc._cython.cygrpc")
    handlers, filters, level = root.handlers[:], grpc_log.filters[:], root.level
    try:
        set_up_logging("text", "info")
        for error in (cygrpc.ExecuteBatchError('Failed "execute_batch": ()'), ValueError("a bug")):
            grpc_log.error("raised in core", exc_info=error)
    finally:
        root.handlers, grpc_log.filters = handlers, filters
        root.setLevel(level)
    written = capsys.readouterr().err
    assert "ValueError: a bug" in written
    assert "execute_batch" not in written


def test_traces_go_where_the_environment_says(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    program = Program("--index", str(index), "--listen", "127.0.0.1:0")
    program.wait_ready()
    trace = "0af7651916cd43dd8448eb211c80319c"
    with grpc.insecure_channel(program.target) as channel:
        SearchServiceStub(channel).Search(
            pb.SearchRequest(collection="collections/default", text="bread"),
            metadata=[("traceparent", f"00-{trace}-b7ad6b7169203331-01")],
            timeout=60,
        )
    _code, _stdout, stderr = program.finish(signal.SIGTERM)
    for name in ("retrieval.v1.SearchService/Search", "embed", "search", "fetch"):
        assert f'"name": "{name}"' in stderr
    assert stderr.count(f'"trace_id": "0x{trace}"') == 4


def test_without_being_asked_for_there_are_no_traces() -> None:
    for environment in (
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"},
    ):
        tracer = Tracer(environment)
        assert tracer._tracer is None
        with tracer.request("/a/b", []) as span:
            span.finish("OK", "x")
        tracer.close()
    with pytest.raises(InvalidArgument, match="known: otlp"):
        Tracer({"OTEL_TRACES_EXPORTER": "pigeon"})


def test_two_servers_keep_their_own_numbers() -> None:
    one, other = Metrics(), Metrics()
    one.looked_up(hits=1, misses=0)
    assert other.registry.get_sample_value("retrieval_query_cache_total", {"outcome": "hit"}) in (
        None,
        0.0,
    )


def test_background_failures_are_counted_by_task() -> None:
    metrics = Metrics()
    metrics.supervises("encoder")
    metrics.supervises("watcher")
    metrics.background_failed("watcher")
    counted = {
        task: metrics.registry.get_sample_value(
            "retrieval_background_failures_total", {"task": task}
        )
        for task in ("encoder", "watcher")
    }
    assert counted == {"encoder": 0, "watcher": 1}


def test_refusals_are_counted_and_logged_with_who_asked(
    index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    token = create_token(path, "backend", rate=1)
    metrics = Address("127.0.0.1", 0)
    with (
        caplog.at_level(logging.INFO, logger="retrieval.service.observability.observer"),
        running({"default": index}, metrics=metrics, token_file=path) as server,
    ):
        with RetrievalClient(server.target) as stranger, pytest.raises(ServiceError):
            stranger.search("bread")
        with RetrievalClient(server.target, token=token) as client:
            client.search("bread")
            with pytest.raises(ServiceError):
                client.search("bread")
        seen = numbers(server)
    rejected = "retrieval_requests_rejected_total"
    assert seen[rejected, "", "UNAUTHENTICATED"] == 1
    assert seen[rejected, "", "RATE_LIMITED"] == 1
    assert seen[rejected, "message_budget", "OVERLOADED"] == 0
    assert seen["retrieval_queue_seconds_count", "model"] == 1
    assert seen["retrieval_queue_seconds_count", "search"] >= 1
    lines = [getattr(record, "fields", {}) for record in caplog.records]
    assert [line.get("caller") for line in lines] == [None, "backend", None]
    assert all(str(line["peer"]).startswith("ipv4:127.0.0.1:") for line in lines)


def test_the_log_names_a_clients_certificate(
    index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    shown = {"server": authority.issue_cert("127.0.0.1"), "client": authority.issue_cert("a@b.org")}
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, made in shown.items():
        made.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    tls = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    own = Tls(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    with (
        caplog.at_level(logging.INFO, logger="retrieval.service.observability.observer"),
        running({"default": index}, tls=tls) as server,
        RetrievalClient(server.target, tls=own) as client,
    ):
        client.search("bread")
    (line,) = [getattr(record, "fields", {}) for record in caplog.records]
    assert "trustme" in str(line["certificate"])


def test_a_crowd_at_the_metrics_takes_few_threads(index: Path) -> None:
    with running({"default": index}, metrics=Address("127.0.0.1", 0)) as server:
        assert server.server._metrics_server is not None
        port = server.server._metrics_server.server_port
        before = threading.active_count()
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        wait_until(lambda: threading.active_count() > before)
        for connection in crowd[8:]:
            connection.settimeout(5)
            assert connection.recv(1) == b"", "more than a few are hung up on"
        assert threading.active_count() - before <= 8
        for connection in crowd:
            connection.close()
        wait_until(lambda: threading.active_count() <= before)
        assert numbers(server)["retrieval_requests_under_way",] == 0


def test_alerts_are_of_metrics_that_there_are() -> None:
    """Prometheus would take a rule for a metric that is not there, and never alert."""
    root = Path(__file__).parents[3]
    rules = yaml.safe_load((root / "docs" / "alerts.yml").read_text(encoding="utf-8"))
    metrics = Metrics()
    IngestMetrics(
        metrics.registry,
        pending_documents=lambda: 0,
        pending_bytes=lambda: 0,
        writer_starts=lambda: 0,
        writer_hangs=lambda: 0,
    )
    for task in ("x",):
        metrics.supervises(task)
        metrics.has(task)
    known = {
        name
        for family in metrics.registry.collect()
        for name in (
            family.name,
            *(family.name + suffix for suffix in ("_total", "_bucket", "_count", "_sum")),
        )
    }
    operations = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    used = set()
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert rule["annotations"]["summary"]
            assert f"`{rule['alert']}`" in operations
            names = set(re.findall(r"\b(?:retrieval|process)_[a-z_]+", rule["expr"]))
            assert names, rule["alert"]
            assert names <= known, rule["alert"]
            assert rule["expr"].count("(") == rule["expr"].count(")")
            used |= names
    assert {
        "retrieval_requests_rejected_total",
        "retrieval_queue_seconds_bucket",
        "retrieval_index_generation_age_seconds",
        "retrieval_background_failures_total",
    } <= used
