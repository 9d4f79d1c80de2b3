"""Limits that hold over several Envoys: the shipped `ratelimit.yaml`, twice, before one rate limit service on Redis."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from harness import anthropic, config, replies
from harness.envoy import CURRENT, OLDER
from harness.ratelimit import RateLimitService, Redis, limit
from harness.upstream import Gate

ACME = {"authorization": "Bearer key-of-acme"}
BETA = {"authorization": "Bearer key-of-beta"}
CONSUMERS = [{"name": name, "keys": [{"inline": f"key-of-{name}"}]} for name in ("acme", "beta")]
TOKENS = 21
"""What one answer of `replies` takes."""


@pytest.fixture
def fleet(start, tmp_path):
    """Starts Redis, a service with these limits, and two Envoys that ask it."""
    redis = Redis(tmp_path / "redis")
    services = []

    def fleet(*limits: dict, size: int = 2, deny: bool = False, **setup):
        service = RateLimitService(redis, list(limits), tmp_path / "service")
        services.append(service)

        def change(bootstrap):
            ratelimit = config.ratelimit_filter(bootstrap)
            ratelimit["failure_mode_deny"] = deny
            # A loaded machine is slower than the shipped 0.2 s.
            ratelimit["timeout"] = "5s"

        document = {"consumers": CONSUMERS, "anonymous": "refuse", "filter_state": True}
        fields = {
            "document_fields": document | setup.pop("document", {}),
            "build": config.limited_by_service(service.port),
            "change": change,
        }
        providers = setup.pop("providers", {"openai": ["a"], "groq": ["b"]})
        return service, [start(providers, **fields, **setup) for _ in range(size)]

    yield fleet
    for service in services:
        if service.process.poll() is None:
            service.stop()
    redis.stop()


def await_charges(service: RateLimitService, expected: dict, timeout: float = 10):
    """Envoy charges after the client has its answer, so this may take a moment; too much is never charged."""
    deadline = time.monotonic() + timeout
    while (charged := service.counts()) != expected:
        assert time.monotonic() < deadline, (charged, expected)
        time.sleep(0.02)


def test_a_limit_of_requests_is_one_for_all_envoys(fleet):
    _, (one, other) = fleet(limit("budget", "requests", 5))
    answers = [gateway.chat(ACME) for _ in range(3) for gateway in (one, other)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert one.chat(BETA).status == 200, "each consumer has its own"
    refused = answers[-1]
    assert refused.code == "rate_limit_exceeded"
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert len(one.requests) + len(other.requests) == 6


def test_and_never_passes_more_under_load(fleet):
    _, gateways = fleet(limit("budget", "requests", 20), concurrency=2)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda n: gateways[n % 2].chat(ACME).status, range(60)))
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 20
    assert sum(len(gateway.requests) for gateway in gateways) == statuses.count(200)


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_charged_when_the_answer_is_over(fleet, stream):
    service, (one, other) = fleet(limit("budget", "tokens", 2 * TOKENS))
    for number, gateway in enumerate((one, other), 1):
        assert gateway.chat(ACME, stream=stream).status == 200
        await_charges(service, {("tokens", "acme"): number * TOKENS})
    for gateway in (one, other):
        assert gateway.chat(ACME, stream=stream).status == 429
        assert gateway.chat(BETA, stream=stream).status == 200


def test_a_client_that_goes_away_is_charged_what_is_known(fleet):
    """Anthropic says at the start what the prompt took."""
    service, (gateway,) = fleet(
        limit("budget", "tokens", 1_000),
        size=1,
        providers={"claude": ["a"]},
        provider_fields={"claude": {"kind": "anthropic", "include_usage": True}},
    )
    first, *rest = anthropic.pieces()
    gate = Gate()
    gateway.always("claude/a", anthropic.events([first, *rest[:3], gate, *rest[3:]]))
    body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    with gateway.client.streaming("POST", "/v1/chat/completions", body, ACME) as (answer, pieces):
        assert answer.status == 200
        next(pieces)
    gate.open()
    await_charges(service, {("tokens", "acme"): 10})


def test_a_request_that_moves_on_is_one_request_and_pays_once(fleet):
    service, (gateway,) = fleet(limit("budget", "requests", 2), limit("budget", "tokens", 1_000), size=1)
    gateway.always("openai/a", replies.rate_limited(60))
    answer = gateway.chat(ACME)
    assert (answer.status, answer.headers["x-keyward-provider"]) == (200, "groq")
    assert gateway.attempts == ["openai/a", "groq/b"]
    await_charges(service, {("requests", "acme"): 1, ("tokens", "acme"): TOKENS})
    # With the last one that is left, too: moving on asks for none.
    gateway.always("groq/b", replies.rate_limited(60))
    assert gateway.chat(ACME).code == "keys_temporarily_exhausted"
    await_charges(service, {("requests", "acme"): 2, ("tokens", "acme"): TOKENS})


def test_what_keyward_refuses_is_not_charged(fleet):
    service, (gateway,) = fleet(limit("budget", "requests", 10), size=1)
    assert gateway.chat({"x-api-key": "wrong"}).status == 401
    assert gateway.chat(ACME, model="no-such").status == 404
    assert gateway.chat(ACME).status == 200
    await_charges(service, {("requests", "acme"): 1})


def test_a_refused_request_leaves_the_key_as_it_was(fleet):
    """The gateway stage had claimed a key of two requests a day for it."""
    keys = [{"id": "a", "limits": [{"requests": 2, "per": "day"}]}]
    _, (gateway,) = fleet(limit("budget", "requests", 1), size=1, providers={"openai": keys})
    assert [gateway.chat(ACME).status for _ in range(4)] == [200, 429, 429, 429]
    assert gateway.chat(BETA).status == 200


@pytest.mark.parametrize(("deny", "expected"), [(False, (200, None)), (True, (503, "rate_limit_unavailable"))])
def test_a_service_that_is_down(fleet, deny, expected):
    service, gateways = fleet(limit("budget", "requests", 100), deny=deny)
    assert [gateway.chat(ACME).status for gateway in gateways] == [200, 200]
    service.stop()
    for gateway in gateways:
        for stream in (False, True):
            answer = gateway.chat(ACME, stream=stream)
            assert (answer.status, answer.code if deny else None) == expected
    if deny:
        assert answer.json["error"]["type"] == "server_error"
        assert answer.headers["retry-after"] == "1"


def test_the_official_client_waits_and_succeeds(fleet):
    _, (gateway,) = fleet(limit("budget", "requests", 1, seconds=2), size=1)
    client = openai.OpenAI(api_key="key-of-acme", base_url=f"http://127.0.0.1:{gateway.port}/v1", max_retries=4)
    messages = [{"role": "user", "content": "hello"}]
    for _ in range(2):
        answer = client.chat.completions.create(model="fast", messages=messages)
        assert answer.choices[0].message.content == replies.TEXT


@pytest.mark.parametrize("version", [CURRENT, *OLDER])
def test_envoys_of_all_versions(fleet, version):
    service, (gateway,) = fleet(limit("budget", "requests", 2), limit("budget", "tokens", 1_000), size=1, version=version)
    assert [gateway.chat(ACME, stream=stream).status for stream in (False, True, False)] == [200, 200, 429]
    await_charges(service, {("requests", "acme"): 3, ("tokens", "acme"): 2 * TOKENS})
