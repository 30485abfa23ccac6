"""Who may ask: tokens, scopes, rates, TLS and client certificates, with real servers."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import pytest
import trustme
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client import RetrievalClient, Tls
from retrieval.commands.cli import cli, main
from retrieval.errors import (
    InvalidArgument,
    NotFound,
    RateLimited,
    ServiceError,
    ServiceUnavailable,
    StorageError,
    Unauthenticated,
)
from retrieval.service.access import token_file as tokens_module
from retrieval.service.access.callers import EVERYONE, Access, Bucket
from retrieval.service.access.token_file import create_token, read_tokens, revoke_token
from retrieval.service.config import Address, ServiceConfig, TlsFiles
from retrieval.service.grpc_api.tls import Certificates
from retrieval.service.server import SERVICE_NAMES
from tests.service.harness import Program, RunningServer, running, wait_until


def refused(client: RetrievalClient, collection: str = "default") -> tuple[str, str]:
    """Status and reason of a search that must fail."""
    with pytest.raises(ServiceError) as caught:
        client.search("bread", collection=collection)
    return caught.value.status, caught.value.service_reason


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def tokens(token_file: Path) -> dict[str, str]:
    return {
        "all": create_token(token_file, "all"),
        "tea": create_token(token_file, "tea", scopes=["search", "read"], collections=["tea"]),
        "embed": create_token(token_file, "embed", scopes=["embed"]),
        "slow": create_token(token_file, "slow", rate=0.01),
        "old": create_token(token_file, "old", days=1e-9),
    }


@pytest.fixture(scope="module")
def guarded(
    index: Path, other_index: Path, token_file: Path, tokens: dict[str, str]
) -> Iterator[RunningServer]:
    assert tokens
    with running({"default": index, "tea": other_index}, token_file=token_file) as server:
        yield server


def client_of(server: RunningServer, token: str = "") -> RetrievalClient:
    return RetrievalClient(server.target, token=token)


def test_a_token_opens_what_it_is_for(guarded: RunningServer, tokens: dict[str, str]) -> None:
    with client_of(guarded, tokens["all"]) as client:
        assert client.search("bread").passages
        assert client.embed(["bread"], "query").shape[0] == 1
        assert {each.name for each in client.collections()} == {
            "collections/default",
            "collections/tea",
        }
        assert client.reload("tea").document_count == 1
    with client_of(guarded, tokens["embed"]) as client:
        assert client.count_tokens(["bread"]) == [1]
        assert refused(client) == ("PERMISSION_DENIED", "PERMISSION_DENIED")


def test_collections_out_of_scope_can_not_be_told_from_missing_ones(
    guarded: RunningServer, tokens: dict[str, str]
) -> None:
    with client_of(guarded, tokens["tea"]) as client:
        assert client.search("tea", collection="tea").passages
        assert [each.name for each in client.collections()] == ["collections/tea"]
        for name in ("default", "no-such"):
            with pytest.raises(ServiceError, match=r"it sees: tea$") as caught:
                client.search("bread", collection=name)
            assert caught.value.status == "PERMISSION_DENIED"
        with pytest.raises(ServiceError, match="lacks the scope reload"):
            client.reload("tea")
        with pytest.raises(ServiceError, match="lacks the scope embed"):
            client.embed(["bread"], "query", collection="tea")
        with pytest.raises(ServiceError, match="PERMISSION_DENIED|this token"):
            client.document("collections/default/documents/1")


@pytest.mark.parametrize("change", ["", "rt_", "rt_0_0", "rt__", "x", "Basic"])
def test_wrong_tokens(guarded: RunningServer, change: str) -> None:
    with client_of(guarded, change) as client:
        assert refused(client) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


def test_a_token_with_another_secret_or_expired(
    guarded: RunningServer, tokens: dict[str, str]
) -> None:
    identifier = tokens["all"].split("_")[1]
    secret = tokens["tea"].split("_", 2)[2]
    for token in (f"rt_{identifier}_{secret}", f"rt_{identifier}_", tokens["old"]):
        with client_of(guarded, token) as client:
            assert refused(client)[0] == "UNAUTHENTICATED"


def test_a_rate_is_kept(guarded: RunningServer, tokens: dict[str, str]) -> None:
    with client_of(guarded, tokens["slow"]) as client:
        assert client.search("bread").passages
        assert refused(client) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")


def test_health_is_open_and_reflection_is_not(
    guarded: RunningServer, tokens: dict[str, str]
) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(guarded.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(reflection.ServerReflectionInfo(iter([request]), timeout=60))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        headers = [("authorization", f"bearer {tokens['tea']}")]
        (answer,) = reflection.ServerReflectionInfo(iter([request]), timeout=60, metadata=headers)
        assert "retrieval.v1.SearchService" in str(answer)


def health_codes(channel: grpc.Channel, name: str, token: str = "") -> set[str]:
    """How ``Check`` and ``Watch`` of one name end or begin."""
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=name)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    found = set()
    for ask in (
        lambda: stub.Check(request, timeout=60, metadata=metadata),
        lambda: next(stub.Watch(request, timeout=60, metadata=metadata)),
    ):
        try:
            found.add(health_pb2.HealthCheckResponse.ServingStatus.Name(ask().status))
        except grpc.RpcError as error:
            found.add(error.code().name)
    return found


def test_health_tells_nobody_which_collections_exist(
    guarded: RunningServer, tokens: dict[str, str]
) -> None:
    known, unknown = "collections/default", "collections/no-such"
    with grpc.insecure_channel(guarded.target) as channel:
        for name in (known, unknown, "collections/", "collections/a/b"):
            assert health_codes(channel, name) == {"UNAUTHENTICATED"}
            assert health_codes(channel, name, "rt_0_0") == {"UNAUTHENTICATED"}
        for name in (known, unknown):
            assert health_codes(channel, name, tokens["tea"]) == {"PERMISSION_DENIED"}
        assert health_codes(channel, "collections/tea", tokens["tea"]) == {"SERVING"}
        assert health_codes(channel, known, tokens["all"]) == {"SERVING"}
        # What the protocol says of a name that is not known.
        assert health_codes(channel, unknown, tokens["all"]) == {"NOT_FOUND", "SERVICE_UNKNOWN"}
        assert health_codes(channel, "retrieval.v1.SearchService") == {"SERVING"}


def test_health_lists_what_the_caller_may_see(
    guarded: RunningServer,
    server: RunningServer,
    tokens: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def listed(target: str, token: str = "") -> set[str]:
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with grpc.insecure_channel(target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.List(health_pb2.HealthListRequest(), timeout=60, metadata=metadata)
        assert {one.status for one in answer.statuses.values()} == {1}
        return set(answer.statuses)

    services = {"", *SERVICE_NAMES}
    assert listed(guarded.target) == services
    assert listed(guarded.target, tokens["tea"]) == services | {"collections/tea"}
    both = services | {"collections/tea", "collections/default"}
    assert listed(guarded.target, tokens["all"]) == both
    assert listed(server.target) == both
    with pytest.raises(grpc.RpcError) as caught:
        listed(guarded.target, "rt_0_0")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "Traceback" not in caplog.text


def test_the_log_names_no_token(
    guarded: RunningServer, tokens: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), client_of(guarded, tokens["tea"]) as client:
        client.search("tea", collection="tea")
        refused(client)
    with caplog.at_level("INFO"), client_of(guarded, "rt_abc_verysecret") as client:
        refused(client)
    assert "PERMISSION_DENIED" in caplog.text
    assert "verysecret" not in caplog.text
    assert tokens["tea"].split("_", 2)[2] not in caplog.text


def at_once(calls: list[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def test_tokens_that_are_made_and_revoked_at_once(tmp_path: Path) -> None:
    """Nothing that was printed is lost, nothing that was revoked comes back."""
    path = tmp_path / "tokens.json"
    old = [f"old{number}" for number in range(8)]
    at_once([partial(create_token, path, name) for name in old])
    assert {each.name for each in read_tokens(path)} == set(old)
    new = [f"new{number}" for number in range(8)]
    revocations = [partial(revoke_token, path, name) for name in old]
    at_once([*revocations, *(partial(create_token, path, name) for name in new)])
    assert {each.name for each in read_tokens(path)} == set(new)


def test_programs_take_turns_at_the_token_file(tmp_path: Path) -> None:
    """And one that waits in vain says so."""
    path = tmp_path / "tokens.json"
    code = "import sys; from retrieval.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", code, "token", "create", f"n{n}", "--token-file", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(4)
    ]
    printed = [program.communicate()[0] for program in programs]
    assert all(token.startswith(b"rt_") for token in printed)
    assert len(read_tokens(path)) == 4


def test_a_lock_that_is_never_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    create_token(path, "one")
    monkeypatch.setattr(tokens_module, "LOCK_SECONDS", 0.05)
    with (tmp_path / ".tokens.json.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="being changed by another program"):
            create_token(path, "two")


def test_a_replaced_file_keeps_its_owner_and_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "tokens.json"
    link.symlink_to("real/tokens.json")
    create_token(link, "one")
    real = tmp_path / "real" / "tokens.json"
    real.chmod(0o640)
    owner = (12345, 54321) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(real, *owner)
    create_token(link, "two")
    revoke_token(link, "one")
    status = real.stat()
    assert (status.st_uid, status.st_gid) == owner
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--days", "1e9"], "1000000000.0 is not in the range 0<x<=36500"),
        (["x", "--days", "nan"], "days"),
        (["x", "--days", "inf"], "days"),
        (["x", "--days", "-1"], "days"),
        (["x", "--rate", "nan"], "rate"),
        (["a\nb"], "printable"),
        (["\udcff"], "printable"),
        ([" "], "printable"),
        (["x", "--collection", "\udcff"], "can't be a collection's name"),
        (["x", "--collection", "Docs"], "did you mean docs?"),
    ],
)
def test_values_that_no_token_can_have(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens.json"
    assert main(["token", "create", "--token-file", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not path.exists()


def test_the_file_keeps_hashes_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = create_token(path, "one", rate=2.5, days=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token.split("_", 2)[2] not in path.read_text()
    (record,) = read_tokens(path)
    assert record.rate == 2.5
    assert not record.has_expired(datetime.now(UTC))
    assert record.has_expired(datetime.now(UTC) + timedelta(days=2))
    with pytest.raises(InvalidArgument, match="already"):
        create_token(path, "one")
    create_token(path, "two")
    revoke_token(path, "one")
    assert [each.name for each in read_tokens(path)] == ["two"]
    with pytest.raises(NotFound):
        revoke_token(path, "one")
    assert {each.name for each in tmp_path.iterdir()} == {"tokens.json", ".tokens.json.lock"}


def test_writing_is_granted_by_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    run = CliRunner().invoke
    create = ("token", "create", "--token-file", str(path))
    run(cli, [*create, "all"])
    run(cli, [*create, "crawler", "--scope", "write", "--max-documents-per-day", "7"])
    every, crawler = read_tokens(path)
    assert every.scopes == ("search", "embed", "read", "reload")
    assert (crawler.scopes, crawler.quota) == (("write",), (7, 0))
    without, with_quota = json.loads(path.read_text())["tokens"]
    assert "max_documents_per_day" not in without, "older versions must be able to read it"
    assert with_quota["max_documents_per_day"] == 7
    listed = run(cli, ["token", "list", "--token-file", str(path)])
    assert "at most 7 documents a day" in listed.output
    for wrong in ("-1", "x", str(2**60)):
        assert run(cli, [*create, "no", "--max-bytes-per-day", wrong]).exit_code == 2
    assert len(read_tokens(path)) == 2


def test_an_allowance_tells_when_it_has_the_next_request() -> None:
    now = 0.0
    bucket = Bucket(10.0, lambda: now)
    for _ in range(10):
        assert bucket.seconds_until_next() == 0
        bucket.charge(1)
    assert bucket.seconds_until_next() == pytest.approx(0.1)
    now = 3600.0  # a long pause saves up no more than a second's worth
    for _ in range(10):
        assert bucket.seconds_until_next() == 0
        bucket.charge(1)
    assert bucket.seconds_until_next() == pytest.approx(0.1)


GOOD = {
    "id": "a",
    "name": "n",
    "salt": "00",
    "sha256": "0" * 64,
    "scopes": ["search"],
    "collections": ["*"],
    "rate": 0,
    "created_at": "",
    "expires_at": "",
}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "tokens": []}',
        '{"version": 1}',
        '{"version": 1, "tokens": [{}]}',
        *(
            json.dumps({"version": 1, "tokens": [{**GOOD, **wrong}]})
            for wrong in (
                {"salt": "x"},
                {"scopes": ["everything"]},
                {"scopes": "search"},
                {"collections": [1]},
                {"rate": -1},
                {"rate": "x"},
                {"expires_at": "soon"},
                {"more": 1},
                {"sha256": 5},
                {"max_documents_per_day": -1},
                {"max_bytes_per_day": "x"},
            )
        ),
        "[" * 100_000,
    ],
)
def test_what_is_no_token_file_is_said_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match="not a token file"):
        Access(path)
    good = json.dumps({"version": 1, "tokens": [GOOD]})
    path.write_text(good)
    assert not Access(path).is_open


def test_a_missing_token_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="retrieval token create"):
        Access(tmp_path / "tokens.json")


@given(st.text())
def test_no_header_is_let_in(text: str) -> None:
    access = Access(None)
    assert access.identify([("authorization", text)]) is EVERYONE
    access = Access.__new__(Access)
    access._token_file, access._tokens = Path("x"), {}
    with pytest.raises(Unauthenticated):
        access.identify([("authorization", text)])
    with pytest.raises(Unauthenticated):
        access.identify([("authorization", f"Bearer {text}")])


def test_a_bucket_fills_with_time() -> None:
    now = [0.0]
    bucket = Bucket(2.0, lambda: now[0])
    for _ in range(2):
        bucket.take()
    with pytest.raises(RateLimited, match="try again in 0.5 s") as limited:
        bucket.take()
    assert limited.value.retry_seconds == 0.5
    now[0] = 0.5
    bucket.take()
    now[0] = 100.0
    for _ in range(2):
        bucket.take()
    with pytest.raises(RateLimited):
        bucket.take()


def test_revoked_tokens_end_with_sighup(index: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = create_token(path, "one")
    program = Program("--index", str(index), "--listen", "127.0.0.1:0", "--token-file", str(path))
    try:
        program.wait_ready()
        with RetrievalClient(program.target, token=token) as client:
            assert client.search("bread").passages
            path.write_text("damaged")
            os.kill(program.process.pid, signal.SIGHUP)
            assert client.search("bread").passages, "what can't be read changes nothing"
            path.unlink()
            fresh = create_token(path, "two")
            os.kill(program.process.pid, signal.SIGHUP)
            wait_until(lambda: is_refused(client))
        with RetrievalClient(program.target, token=fresh) as client:
            assert client.search("bread").passages
    finally:
        code, _stdout, stderr = program.finish(signal.SIGTERM)
    assert code == 0
    assert "stay as they were" in stderr
    assert "Traceback" not in stderr


def is_refused(client: RetrievalClient) -> bool:
    try:
        client.search("bread")
    except ServiceError as error:
        return error.status == "UNAUTHENTICATED"
    return False


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two authorities, and a server's and a client's certificate of the first."""
    folder = tmp_path_factory.mktemp("pem")
    for number in (1, 2):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / f"ca{number}.pem")
        for name in ("127.0.0.1", "client"):
            made = authority.issue_cert(name if name == "127.0.0.1" else "client.example.org")
            made.private_key_pem.write_to_path(folder / f"{name}{number}.key")
            made.cert_chain_pems[0].write_to_path(folder / f"{name}{number}.pem")
    return folder


def files(pem: Path, number: int = 1, *, client_ca: bool = False) -> TlsFiles:
    ca = pem / f"ca{number}.pem" if client_ca else None
    return TlsFiles(pem / f"127.0.0.1{number}.pem", pem / f"127.0.0.1{number}.key", ca)


def test_tls(index: Path, pem: Path, token_file: Path, tokens: dict[str, str]) -> None:
    with running({"default": index}, tls=files(pem), token_file=token_file) as server:
        trusting = Tls(pem / "ca1.pem")
        with RetrievalClient(server.target, tls=trusting, token=tokens["all"]) as client:
            assert client.search("bread").passages
        for tls in (None, Tls(), Tls(pem / "ca2.pem")):
            with (
                RetrievalClient(server.target, tls=tls, timeout=30) as client,
                pytest.raises(ServiceUnavailable),
            ):
                client.search("bread")


def test_clients_show_a_certificate(index: Path, pem: Path) -> None:
    with running({"default": index}, tls=files(pem, client_ca=True)) as server:
        ca = pem / "ca1.pem"
        with RetrievalClient(
            server.target, tls=Tls(ca, pem / "client1.pem", pem / "client1.key")
        ) as client:
            assert client.search("bread").passages
        for tls in (Tls(ca), Tls(ca, pem / "client2.pem", pem / "client2.key")):
            with (
                RetrievalClient(server.target, tls=tls, timeout=30) as client,
                pytest.raises(ServiceUnavailable),
            ):
                client.search("bread")


def test_a_reload_is_all_or_nothing(
    index: Path, pem: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A revoked token and a broken certificate, then a damaged token file and a new certificate."""
    path = tmp_path / "tokens.json"
    token = create_token(path, "one")
    tls = TlsFiles(
        *(Path(shutil.copy(file, tmp_path)) for file in (files(pem).cert, files(pem).key))
    )
    trust = Tls(ca=pem / "ca1.pem")
    with running({"default": index}, tls=tls, token_file=path) as server:

        def reload() -> None:
            server.call(asyncio.to_thread(lambda: None))
            server.loop.call_soon_threadsafe(server.server.reload_access)
            server.call(asyncio.sleep(0))

        def is_let_in() -> bool:
            with RetrievalClient(server.target, tls=trust, token=token) as client:
                return not is_refused(client)

        whole = tls.cert.read_bytes()
        revoke_token(path, "one")
        tls.cert.write_text("broken")
        reload()
        assert is_let_in()
        assert "stay as they were" in caplog.text
        path.write_text("broken")
        shutil.copy(files(pem, 2).cert, tls.cert)
        shutil.copy(files(pem, 2).key, tls.key)
        reload()
        assert is_let_in(), "the old certificate is shown still"
        path.unlink()
        create_token(path, "two")
        tls.cert.write_bytes(whole)
        shutil.copy(files(pem).key, tls.key)
        reload()
        assert not is_let_in()


def test_certificates_are_replaced_while_serving(index: Path, pem: Path, tmp_path: Path) -> None:
    own = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")

    def install(number: int) -> None:
        source = files(pem, number)
        own.cert.write_bytes(source.cert.read_bytes())
        own.key.write_bytes(source.key.read_bytes())

    install(1)
    with running({"default": index}, tls=own) as server:
        first = RetrievalClient(server.target, tls=Tls(pem / "ca1.pem"))
        assert first.search("bread").passages
        install(2)
        server.loop.call_soon_threadsafe(server.server.reload_access)
        assert first.search("bread").passages, "open connections go on"
        with RetrievalClient(server.target, tls=Tls(pem / "ca2.pem")) as second:
            assert second.search("bread").passages
        first.close()


@pytest.mark.parametrize(
    ("cert", "key"),
    [("127.0.0.11.pem", "127.0.0.12.key"), ("gone.pem", "127.0.0.11.key"), ("ca1.pem", "ca1.pem")],
)
def test_certificates_that_do_not_fit(pem: Path, cert: str, key: str) -> None:
    with pytest.raises(InvalidArgument, match="can't use the TLS files"):
        Certificates(TlsFiles(pem / cert, pem / key))


def test_what_an_open_address_needs(pem: Path, token_file: Path) -> None:
    open_to_all = {"indexes": {"default": Path("index")}, "listen": Address("0.0.0.0", 1)}
    with pytest.raises(InvalidArgument, match=r"nothing is encrypted.*and anyone may ask"):
        ServiceConfig(**open_to_all)
    with pytest.raises(InvalidArgument, match="nothing is encrypted"):
        ServiceConfig(**open_to_all, token_file=token_file)
    with pytest.raises(InvalidArgument, match="anyone may ask"):
        ServiceConfig(**open_to_all, tls=files(pem))
    ServiceConfig(**open_to_all, tls=files(pem), token_file=token_file)
    ServiceConfig(**open_to_all, tls=files(pem, client_ca=True))


def test_a_client_does_not_send_its_token_in_the_clear() -> None:
    with pytest.raises(InvalidArgument, match="use TLS"):
        RetrievalClient("search.example.org:50051", token="rt_a_b")
    RetrievalClient("search.example.org:50051", token="rt_a_b", tls=Tls()).close()
    with pytest.raises(InvalidArgument, match="go together"):
        RetrievalClient("127.0.0.1:1", tls=Tls(cert=Path("x")))
    with pytest.raises(InvalidArgument, match="can't read"):
        RetrievalClient("127.0.0.1:1", tls=Tls(ca=Path("no-such.pem")))
    with pytest.raises(InvalidArgument, match="characters"):
        RetrievalClient("127.0.0.1:1", token="a\nb")


def test_the_commands(tmp_path: Path, guarded: RunningServer, token_file: Path) -> None:
    path = str(tmp_path / "tokens.json")
    run = CliRunner().invoke
    made = run(cli, ["token", "create", "one", "--token-file", path, "--scope", "search"])
    assert made.stdout.startswith("rt_")
    listed = run(cli, ["token", "list", "--token-file", path])
    assert "one" in listed.output
    assert made.stdout.strip().split("_", 2)[2] not in listed.output
    (entry,) = json.loads(run(cli, ["token", "list", "--token-file", path, "--json"]).stdout)
    assert (entry["name"], entry["scopes"]) == ("one", ["search"])
    assert "sha256" not in entry
    assert run(cli, ["token", "revoke", "one", "--token-file", path]).exit_code == 0
    assert read_tokens(Path(path)) == []
    token = create_token(token_file, "command")
    guarded.loop.call_soon_threadsafe(guarded.server.reload_access)
    answer = run(
        cli,
        ["search", "bread", "--target", guarded.target, "--json"],
        env={"RETRIEVAL_TOKEN": token},
    )
    assert json.loads(answer.stdout)["passages"]
