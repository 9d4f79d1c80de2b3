"""What Keyward costs: Envoy without it, with a filter that does nothing, and with Keyward, in turn.

All Envoys run at once, with one worker each on the first CPU; wrk and a provider that answers at once (`src/upstream.rs`)
are on the others. A round measures every Envoy once with the same requests, so that whatever else the machine does meets
all of them; ratios are taken within a round. But in the last case the Envoy is saturated: latencies are those of a full queue.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import config
from harness.config import Endpoint
from harness.envoy import REPOSITORY, WASM, Envoy

FOLDER = REPOSITORY / ".run/bench"
UPSTREAM = REPOSITORY / "target/release/upstream"
NOOP = WASM.with_name("noop.wasm")
CONNECTIONS = 16
DELAY = 100
WORKERS = (9, 25)
"""Between which the memory of one more worker is measured: the first few get what loading the filter has left behind."""

DOCUMENT = {
    "providers": [
        {"name": "openai", "keys": [{"id": "main-1", "secret": {"env": "KEY_1"}}, {"id": "main-2", "secret": {"env": "KEY_2"}}]}
    ],
    # The names differ, so that every body is patched.
    "models": [{"name": "fast", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}]}],
    "consumers": [{"name": "everybody"}],
    "anonymous": {"consumer": "everybody"},
}
FOREIGN = {"anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-flash"}
"""Providers of other formats, and what is asked of them."""

ENVIRONMENT = {"KEY_1": "sk-bench-1", "KEY_2": "sk-bench-2"}
CLIENT_KEY = "of-the-client"
SIGNING_SECRET = "signing-secret-of-the-bench-0123456789"


# --- the Envoys ---


def plain(upstream: Endpoint) -> dict:
    """The same listener, route and cluster, and no filter."""
    bootstrap = standalone(upstream, "headers")
    filters = config.connection_manager(bootstrap)["http_filters"]
    filters[:] = [item for item in filters if item["name"] == "envoy.filters.http.router"]
    return bootstrap


def noop(upstream: Endpoint) -> dict:
    """A filter in both places where Keyward has one."""
    bootstrap = plain(upstream)
    plugin = {
        "name": "noop",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": str(NOOP)}}},
            },
        },
    }
    codec = {
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
    }
    filters = config.connection_manager(bootstrap)["http_filters"]
    filters[0]["typed_config"]["upstream_http_filters"] = [plugin, codec]
    filters.insert(0, plugin)
    return bootstrap


def standalone(upstream: Endpoint, mode: str) -> dict:
    return config.standalone({**DOCUMENT, "mode": mode}, {"openai": upstream}, list(ENVIRONMENT))


def two_stages(upstream: Endpoint) -> dict:
    document = {**DOCUMENT, "providers": [*DOCUMENT["providers"]], "models": [*DOCUMENT["models"]]}
    for kind, model in FOREIGN.items():
        document["providers"].append({"name": kind, "keys": [{"id": "main-1", "secret": {"env": "KEY_1"}}]})
        document["models"].append({"name": kind, "targets": [{"provider": kind, "model": model}]})
    return config.two_stages(document, {name: upstream for name in ("openai", *FOREIGN)}, list(ENVIRONMENT))


def limits(upstream: Endpoint, consumers: int) -> dict:
    """Authentication by a key, three limits, and what they reserve and settle."""
    many = 10**9
    limits = [{"requests": many, "per": "minute"}, {"tokens": many, "per": "day"}, {"tokens": many, "per": "month"}]
    keys = [hashlib.sha256(f"key-{number}".encode()).hexdigest() for number in range(consumers - 1)]
    keys.append(hashlib.sha256(CLIENT_KEY.encode()).hexdigest())
    listed = [{"name": f"c{number}", "keys": [{"sha256": key}], "limits": limits} for number, key in enumerate(keys)]
    signing = {"secrets": [{"id": "s1", "inline": SIGNING_SECRET}]}
    document = {**DOCUMENT, "consumers": listed, "anonymous": "refuse", "temporary_keys": signing}
    return config.two_stages(document, {"openai": upstream}, list(ENVIRONMENT))


def temporary_key() -> str:
    """As Keyward would issue it to the last of ten consumers, for one model and an hour."""

    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    now = int(time.time())
    own = {"iss": "keyward", "sub": "c9", "jti": f"c9.{'0' * 56}", "keyward": {"models": ["fast"]}}
    header, claims = {"typ": "JWT", "alg": "HS256", "kid": "s1"}, {"exp": now + 3600, "iat": now, **own}
    signed = ".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{encoded(hmac.digest(SIGNING_SECRET.encode(), signed.encode(), 'sha256'))}"


VARIANTS: dict[str, Callable[[Endpoint], dict]] = {
    "Envoy alone": plain,
    "no-op filter, both places": noop,
    "Keyward standalone, `mode: headers`": lambda upstream: standalone(upstream, "headers"),
    "Keyward standalone, `mode: body`": lambda upstream: standalone(upstream, "body"),
    "Keyward in two stages": two_stages,
    "the same, a key and three limits, 10 consumers": lambda upstream: limits(upstream, 10),
    "the same, a key and three limits, 10,000 consumers": lambda upstream: limits(upstream, 10_000),
    "the same, a temporary key and three limits": lambda upstream: limits(upstream, 10),
}
KEYS = {"the same, a temporary key and three limits": temporary_key()}
"""Of clients that have another one than `CLIENT_KEY`."""
PLAIN, *OTHERS = VARIANTS
TWO_STAGES = "Keyward in two stages"


# --- the requests ---


def chat(size: int, stream: bool, model: str = "fast") -> str:
    """A request of about `size` bytes."""
    text = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. "
    message = {"role": "user", "content": (text * (size // len(text) + 1))[: size - 200]}
    settings = {"model": model, "stream": stream, "temperature": 0.7, "max_tokens": 256}
    return json.dumps({**settings, "messages": [{"role": "system", "content": "Be brief."}, message]}, separators=(",", ":"))


REQUESTS = {
    "chat, 1 KB": chat(1024, stream=False),
    "chat, 32 KB prompt": chat(32 * 1024, stream=False),
    "stream of 100 events": chat(1024, stream=True),
}
TRANSLATED = {f"chat, 1 KB, translated to {kind}": chat(1024, stream=False, model=kind) for kind in FOREIGN}
TRANSLATED |= {f"stream of 100 events, translated from {kind}": chat(1024, stream=True, model=kind) for kind in FOREIGN}
REQUESTS |= TRANSLATED
UNHURRIED = f"chat, 1 KB, 256 clients of a provider that takes about {DELAY} ms"
"""What clients notice where the worker is not saturated: no model answers at once."""
REQUESTS[UNHURRIED] = chat(1024, stream=False)
SMALL = next(iter(REQUESTS))


def variants_of(request: str) -> list[str]:
    return [PLAIN, TWO_STAGES] if request in TRANSLATED or request == UNHURRIED else list(VARIANTS)


WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
wrk.headers["user-agent"] = "OpenAI/Python 2.0.0"
wrk.headers["accept"] = "application/json"
%s
wrk.body = [==[%s]==]
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "failed": %%d, "p50": %%d, "p99": %%d}\\n',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Sample:
    """One Envoy under one kind of request for some seconds."""

    rate: float
    """Requests a second."""
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Microseconds of Envoy's CPU time for a request."""


# --- the measurement ---


@dataclass
class Bench:
    seconds: int
    rounds: int
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)

    def run(self) -> Iterator[str]:
        """The report, line by line."""
        with contextlib.ExitStack() as stack:
            upstream = stack.enter_context(started_upstream())
            envoys, ready = {}, {}
            for name, build in VARIANTS.items():
                before = time.monotonic()
                envoys[name] = stack.enter_context(started_envoy(build(upstream), name))
                ready[name] = time.monotonic() - before
            for request in REQUESTS:
                for name in variants_of(request):
                    load(envoys[name], request, 1, key=KEYS.get(name, CLIENT_KEY))  # Envoy opens its connections, V8 optimizes
                for number in range(self.rounds):
                    say(f"{request}: round {number + 1} of {self.rounds}")
                    for name in variants_of(request):
                        sample = load(envoys[name], request, self.seconds, key=KEYS.get(name, CLIENT_KEY))
                        self.samples.setdefault((request, name), []).append(sample)
        yield from self.table()
        with started_upstream() as upstream:
            yield from footprint(upstream, ready)

    def table(self) -> Iterator[str]:
        """Medians; what is compared with Envoy alone is compared within a round."""
        yield "| | Envoy CPU µs/request | more than alone | requests/s | of alone | p50 ms | p99 ms |"
        yield "|---|---:|---:|---:|---:|---:|---:|"
        for request in REQUESTS:
            yield f"| **{request}** | | | | | | |"
            alone = self.samples[request, PLAIN]
            for name in variants_of(request):
                samples = self.samples[request, name]
                pairs = list(zip(samples, alone, strict=True))
                cpu, rate, p50, p99 = (median(samples, attribute) for attribute in ("cpu", "rate", "p50", "p99"))
                more = statistics.median(sample.cpu - base.cpu for sample, base in pairs)
                share = statistics.median(sample.rate / base.rate for sample, base in pairs)
                yield f"| {name} | {cpu:.0f} | {more:+.0f} | {rate:,.0f} | {share:.2f} | {p50:.1f} | {p99:.1f} |"
        yield ""


def median(samples: list[Sample], attribute: str) -> float:
    return statistics.median(getattr(sample, attribute) for sample in samples)


def load(envoy: Envoy, request: str, seconds: int, connections: int = CONNECTIONS, key: str = CLIENT_KEY) -> Sample:
    script = FOLDER / "request.lua"
    delay = ""
    if request == UNHURRIED:
        delay, connections = f'wrk.headers["x-delay-milliseconds"] = "{DELAY}"', 256
    script.write_text(WRK_SCRIPT % (key, delay, REQUESTS[request]))
    command = [
        "wrk",
        "-t",
        "1",
        "-c",
        str(connections),
        "-d",
        str(seconds),
        "-s",
        str(script),
        f"http://127.0.0.1:{envoy.port()}",
    ]
    before = cpu_seconds(envoy.process.pid)
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30)
    used = cpu_seconds(envoy.process.pid) - before
    summary = json.loads(result.stdout.strip().splitlines()[-1])
    if summary["failed"] or not summary["requests"]:
        raise SystemExit(f"{request}: {summary['failed']} of {summary['requests']} requests failed; see {envoy.log_path}")
    return Sample(
        rate=summary["requests"] / summary["seconds"],
        p50=summary["p50"] / 1e3,
        p99=summary["p99"] / 1e3,
        cpu=used * 1e6 / summary["requests"],
    )


def footprint(upstream: Endpoint, ready: dict[str, float]) -> Iterator[str]:
    """What Keyward takes beside CPU time."""
    say("memory")
    memory = {name: memory_per_worker(VARIANTS[name](upstream), name) for name in (PLAIN, OTHERS[0], TWO_STAGES)}
    yield "| | size of the filter | memory of a worker | start until ready |"
    yield "|---|---:|---:|---:|"
    sizes = {PLAIN: "–", OTHERS[0]: size(NOOP), TWO_STAGES: size(WASM)}
    for name in memory:
        yield f"| {name} | {sizes[name]} | {memory[name] / 1e6:.1f} MB | {ready[name]:.2f} s |"


def memory_per_worker(bootstrap: dict, name: str) -> float:
    """Bytes that one more worker takes once it has served requests."""
    resident = []
    for workers in WORKERS:
        with started_envoy(bootstrap, name, workers) as envoy:
            # Envoy spreads connections over its workers, so every one gets some.
            load(envoy, SMALL, 2, connections=8 * workers)
            resident.append(resident_bytes(envoy.process.pid))
    return (resident[1] - resident[0]) / (WORKERS[1] - WORKERS[0])


# --- processes ---


@contextlib.contextmanager
def started_upstream() -> Iterator[Endpoint]:
    with subprocess.Popen([UPSTREAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Endpoint(int(process.stdout.readline()), http2=True)
        finally:
            process.stdin.close()  # it ends with its standard input


@contextlib.contextmanager
def started_envoy(bootstrap: dict, name: str, workers: int = 1) -> Iterator[Envoy]:
    folder = FOLDER / "".join(c if c.isalnum() else "-" for c in name)
    with pinned(FIRST_CPU):
        envoy = Envoy(bootstrap, folder, ENVIRONMENT, workers)
    try:
        yield envoy
    finally:
        envoy.stop()


FIRST_CPU, *OTHER_CPUS = sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def pinned(*cpus: int) -> Iterator[None]:
    """Processes that are started meanwhile run on these CPUs only."""
    previous = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, previous)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def say(text: str):
    print(f"    {text}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not OTHER_CPUS:
        raise SystemExit("this needs two CPUs: one for Envoy, one for client and provider")
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = FOLDER / "report.md"
    with pinned(*OTHER_CPUS), report.open("w") as file:
        for line in Bench(arguments.seconds, arguments.rounds).run():
            print(line, flush=True)
            print(line, file=file)
    say(f"written to {report.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
