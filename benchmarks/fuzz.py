"""Send hostile requests by the hundred thousand: does the server stay up and keep answering?

    python -m benchmarks.fuzz [--requests 100000] [--sockets 3000] [--seed N]

Over gRPC every method gets random bytes, real requests with bytes changed, cut off or repeated, and
well-formed messages with hostile values (huge numbers, wrong lengths, NaN, invalid UTF-8, names and
filters full of metacharacters). The bare port gets random bytes, other protocols, HTTP/2 frames
that lie about themselves, headers without end, connections that say nothing, and streams that
nobody reads.

No answer may be INTERNAL or UNKNOWN, the server must give the same answer to the same question
afterwards, and its memory must not grow. Exits with code 1 otherwise.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc

from benchmarks.common.beir import build_index, served
from benchmarks.common.hostile import Fuzzer, attacks
from benchmarks.common.processes import resident
from retrieval.client import RetrievalClient
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.v1 import search_service_pb2
from tests.service.harness import SUBJECTS

AT_ONCE = 48
BAD_CODES = ("INTERNAL", "UNKNOWN")


async def fuzz_methods(address: str, requests: int, seed: int) -> Counter[str]:
    """Send hostile messages over well-behaved connections; count the answers by status."""
    fuzzer, seen = Fuzzer(seed), Counter[str]()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(4)]
    left = iter(range(requests))

    async def client(channel: grpc.aio.Channel) -> None:
        for number in left:
            path, data, streams = fuzzer.next()
            try:
                if streams:
                    call = channel.unary_stream(path)(data, timeout=60)
                    async for _ in call:
                        # Leave some streams before their end.
                        if number % 3 == 0:
                            call.cancel()
                else:
                    await channel.unary_unary(path)(data, timeout=60)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                name = error.code().name
                seen[name] += 1
                if name in BAD_CODES:
                    print(f"{name} from {path} for {data[:200]!r}: {error.details()}", flush=True)
            except asyncio.CancelledError:
                seen["hung up"] += 1

    await asyncio.gather(*(client(channels[number % 4]) for number in range(AT_ONCE)))
    for channel in channels:
        await channel.close()
    return seen


async def fuzz_sockets(address: str, sockets: int, seed: int) -> int:
    """Attack the bare port; return the number of connections made."""
    pick = random.Random(seed)
    says = attacks(pick)
    host, _, port = address.rpartition(":")
    made = 0

    async def attacker() -> None:
        nonlocal made
        for _ in left:
            reader, writer = await asyncio.open_connection(host, int(port))
            made += 1
            data = pick.choice(says)()
            try:
                # Send some bytes slowly.
                step = pick.choice((len(data) or 1, 1 + len(data) // 7))
                for start in range(0, len(data), step):
                    writer.write(data[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0.001)
                await asyncio.wait_for(reader.read(100_000), pick.choice((0.01, 0.3)))
            except (OSError, TimeoutError):
                pass
            finally:
                writer.transport.abort()

    left = iter(range(sockets))
    await asyncio.gather(*(attacker() for _ in range(32)))
    return made


async def slow_readers(address: str, count: int) -> int:
    """Open many streams and never read them; return how many could be opened."""
    request = search_service_pb2.StreamSearchRequest(text="bread", limit=10_000)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(count)]
    calls = [
        channel.unary_stream("/retrieval.v1.SearchService/StreamSearch")(
            request.SerializeToString(), timeout=20
        )
        for channel in channels
    ]
    await asyncio.sleep(3)
    opened = sum(not call.done() for call in calls)
    for channel in channels:
        await channel.close()
    return opened


def best(address: str) -> list[tuple[str, float]]:
    """Return uris and scores of the best passages for a question."""
    with RetrievalClient(address, timeout=60) as client:
        return [(p.uri, round(p.score or 0, 4)) for p in client.search("rosin and strings")]


def main() -> None:
    """Attack a server, and exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--sockets", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = {
            f"{subject}{n}": f"{n}. {fact}" for subject, fact in SUBJECTS.items() for n in range(20)
        }
        build_index(texts, folder, ["--model", OFFLINE_MODEL])
        with served(folder / "index", ["--log-level", "warning"]) as (address, pid):
            before = best(address)
            # Run once first, so that memory of lazy imports does not look like a leak.
            asyncio.run(fuzz_methods(address, 2000, arguments.seed + 1))
            memory, started = resident(pid), time.monotonic()
            step = max(1, arguments.requests // 5)
            seen: Counter[str] = Counter()
            for number in range(5):
                seed = arguments.seed + 10 * number
                seen += asyncio.run(fuzz_methods(address, step, seed + 2))
                sockets = asyncio.run(fuzz_sockets(address, arguments.sockets // 5, seed + 3))
                opened = asyncio.run(slow_readers(address, 20))
                print(
                    f"{sum(seen.values())} requests, {sockets} connections, {opened} slow readers; "
                    f"resident {resident(pid):.0f} MB after {time.monotonic() - started:.0f} s",
                    flush=True,
                )
            after = best(address)
            print(f"{dict(seen.most_common())}; resident {memory:.0f} → {resident(pid):.0f} MB")
            if after != before:
                failed = True
                print("the same question has another answer now")
    if failed or any(seen[code] for code in BAD_CODES):
        sys.exit(1)


if __name__ == "__main__":
    main()
