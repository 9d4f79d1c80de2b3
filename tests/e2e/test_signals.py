"""Every way in which a provider fails: what the client saw, which keys were used in which order, and the state then."""

import json
import time
from dataclasses import dataclass
from email.utils import formatdate

import pytest
from harness import replies
from harness.gateway import seconds_until
from harness.replies import error, rate_limited
from harness.upstream import Fault, Reply

PROVIDERS = {"openai": ["a", "b"], "groq": ["c"]}
NEXT_KEY = ["openai/a", "openai/b"]
NEXT_PROVIDER = ["openai/a", "groq/c"]


def rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def google_retry_info(delay: str) -> Reply:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    quota = {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}
    problem = {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED", "details": [failure, info]}
    return replies.document({"error": problem}, 429)


def hinted(**fields: str) -> Reply:
    """A 429 with these header fields only; `_` stands for `-`."""
    return error(429, headers=[(name.replace("_", "-"), value) for name, value in fields.items()])


@dataclass
class Hint:
    reply: Reply
    least: float
    most: float


# A time in the provider's answer, and between which seconds from now the key may come back.
HINTS = {
    "retry-after in seconds": lambda: Hint(rate_limited(40), 38, 46),
    "retry-after as a date": lambda: Hint(rate_limited(formatdate(time.time() + 40, usegmt=True)), 37, 46),
    "retry-after-ms": lambda: Hint(hinted(retry_after_ms="40000"), 38, 46),
    "retry-after-ms of a month": lambda: Hint(hinted(retry_after_ms="2592000000"), 3500, 3601),
    "OpenAI reset in Go's format": lambda: Hint(
        hinted(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m30s"), 87, 100
    ),
    "OpenAI tokens, not requests": lambda: Hint(
        hinted(
            x_ratelimit_remaining_requests="99",
            x_ratelimit_reset_requests="8.64s",
            x_ratelimit_remaining_tokens="0",
            x_ratelimit_reset_tokens="6m0s",
        ),
        355,
        400,
    ),
    "Groq reset in seconds": lambda: Hint(
        hinted(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="17.399999999s"), 15, 21
    ),
    "Anthropic reset as a date": lambda: Hint(
        hinted(anthropic_ratelimit_requests_remaining="0", anthropic_ratelimit_requests_reset=rfc3339(40)), 37, 46
    ),
    "IETF RateLimit field": lambda: Hint(hinted(ratelimit='"default";r=0;t=40'), 38, 46),
    "three RateLimit fields": lambda: Hint(hinted(ratelimit_remaining="0", ratelimit_reset="40"), 38, 46),
    "epoch seconds": lambda: Hint(hinted(x_ratelimit_remaining="0", x_ratelimit_reset=str(int(time.time()) + 40)), 37, 46),
    "Google RetryInfo": lambda: Hint(google_retry_info("40.5s"), 38, 47),
    "free text": lambda: Hint(error(429, message="Rate limit reached. Please try again in 40.289s."), 38, 47),
    "Azure's trap": lambda: Hint(hinted(retry_after="1", retry_after_ms="0"), 0, 2.5),
    "none": lambda: Hint(error(429), 1, 61),
    "garbage": lambda: Hint(hinted(retry_after="soon", x_ratelimit_reset_requests="-"), 1, 61),
}


@pytest.mark.parametrize("name", HINTS)
def test_a_rate_limited_key_rests_as_long_as_the_provider_says(start, name):
    gateway = start(PROVIDERS)
    hint = HINTS[name]()
    gateway.on("openai/a", hint.reply)
    answer = gateway.chat()
    assert (answer.status, gateway.attempts) == (200, NEXT_KEY)
    assert answer.headers["x-keyward-key"] == "b"
    assert answer.headers["x-keyward-attempts"] == "2"
    key = gateway.key("openai/a")
    if hint.most < 5:  # may be over already
        assert key["until"] is None or seconds_until(key["until"]) <= hint.most
        return
    assert (key["state"], key["reason"]) == ("resting", "rate_limited")
    assert hint.least <= seconds_until(key["until"]) <= hint.most
    assert gateway.chat().status == 200
    assert gateway.attempts == [*NEXT_KEY, "openai/b"], "the next request does not try the resting key"


@dataclass
class Failure:
    reply: Reply
    attempts: list[str]
    state: str = "ready"
    reason: str | None = None
    provider: str = "ready"


FAILURES = {
    "429 insufficient_quota": Failure(replies.out_of_quota(), NEXT_KEY, "resting", "out_of_quota"),
    "402": Failure(error(402, "billing_error", None, "Insufficient balance"), NEXT_KEY, "resting", "out_of_quota"),
    "401": Failure(replies.key_rejected(401), NEXT_KEY, "refused", "key_rejected"),
    "403": Failure(replies.key_rejected(403), NEXT_KEY, "refused", "key_rejected"),
    "503": Failure(error(503, "server_error", "server_is_overloaded"), NEXT_PROVIDER, provider="resting"),
    "503 with a hint": Failure(error(503, "server_error", None, retry_after=30), NEXT_PROVIDER, provider="resting"),
    "529": Failure(error(529, "overloaded_error", None), NEXT_PROVIDER, provider="resting"),
    "500": Failure(error(500, "server_error", None), NEXT_KEY),
    "502": Failure(Reply(502, (("content-type", "text/html"),), (b"<html>Bad Gateway</html>",)), NEXT_KEY),
    "reset before headers": Failure(replies.reset_before_headers(), NEXT_KEY),
    "reset before the first event": Failure(replies.reset_before_first_event(), NEXT_KEY),
    "reset after the role": Failure(replies.stream(pieces=[replies.stream_events()[0], Fault.RESET]), NEXT_KEY),
    "rate limit in a 200 stream": Failure(replies.error_in_stream(), NEXT_KEY, "resting", "rate_limited"),
}


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_moves_on_unseen(start, name, http2):
    failure = FAILURES[name]
    gateway = start(PROVIDERS, http2=http2)
    gateway.on("openai/a", failure.reply)
    answer = gateway.chat(stream=True)
    assert (answer.status, answer.broken) == (200, None)
    assert answer.body == replies.HIDDEN_USAGE
    assert gateway.attempts == failure.attempts
    key = gateway.key("openai/a")
    assert (key["state"], key["reason"]) == (failure.state, failure.reason)
    assert gateway.provider("openai")["state"] == failure.provider
    assert gateway.key(failure.attempts[1])["state"] == "ready"


def test_a_provider_that_refuses_connections_is_left_for_the_next(start):
    gateway = start(PROVIDERS, refused=("openai",))
    answer = gateway.chat()
    assert (answer.status, gateway.attempts) == (200, ["groq/c"])
    assert answer.headers["x-keyward-provider"] == "groq"
    assert [gateway.key(name)["state"] for name in ("openai/a", "openai/b")] == ["ready", "ready"]


def test_a_refusing_provider_without_a_replacement_is_a_502_or_503(start):
    gateway = start({"openai": ["a"]}, refused=("openai",))
    answer = gateway.chat()
    assert answer.status in (502, 503)
    assert "error" in answer.json, "in the client's format"
    assert "x-keyward-state" not in answer.headers


def test_a_provider_that_hangs_is_left_after_the_time_of_a_try(start):
    gateway = start(PROVIDERS, document_fields={"failover": {"per_try_timeout": "300ms"}})
    silence = replies.Gate()
    for key in ("openai/a", "openai/b"):
        gateway.on(key, Reply(None, pieces=(silence, replies.Fault.CLOSE)))
    started = time.monotonic()
    answer = gateway.chat()
    silence.open()
    assert answer.status == 200
    assert gateway.attempts[-1] == "groq/c"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_the_clients_own_fault_is_its_own(start, status):
    gateway = start(PROVIDERS)
    fault = error(status, "invalid_request_error", "context_length_exceeded", "too long")
    gateway.on("openai/a", fault)
    answer = gateway.chat()
    assert (answer.status, answer.body) == (status, fault.body)
    assert gateway.attempts == ["openai/a"]
    assert gateway.key("openai/a")["state"] == "ready"


def test_retry_after_on_a_success_is_no_exhaustion(start):
    gateway = start(PROVIDERS)
    gateway.on("openai/a", replies.chat(headers=[("retry-after", "30")]))
    answer = gateway.chat()
    assert answer.status == 200
    assert "retry-after" not in answer.headers, "it does not describe the client's own quota"
    assert gateway.key("openai/a")["state"] == "ready"
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/a", "openai/a"]


def test_after_the_first_content_a_reset_is_never_shown_as_success(start):
    gateway = start(PROVIDERS)
    gateway.on("openai/a", replies.cut_after_content())
    answer = gateway.chat(stream=True, stream_options={"include_usage": True})
    assert gateway.attempts == ["openai/a"], "never restarted"
    assert answer.body.startswith(b"".join(replies.stream_events()[:2]))
    assert "[DONE]" not in answer.events
    assert answer.broken or "error" in answer.events[-1]
    assert gateway.key("openai/a")["state"] == "ready"


def test_an_error_event_after_content_reaches_the_client_once(start):
    gateway = start(PROVIDERS)
    problem = {"error": {"message": "overloaded", "type": "server_error", "code": None, "param": None}}
    gateway.on("openai/a", replies.stream(pieces=[*replies.stream_events()[:2], replies.event(problem)]))
    answer = gateway.chat(stream=True)
    assert gateway.attempts == ["openai/a"]
    assert [event for event in answer.events if "error" in event] == answer.events[-1:]


def test_an_early_end_of_a_stream_is_an_error_event(start):
    gateway = start(PROVIDERS)
    gateway.on("openai/a", replies.stream(pieces=replies.stream_events()[:2]))
    answer = gateway.chat(stream=True)
    assert answer.broken is None
    assert [event for event in answer.events if "error" in event] == answer.events[-1:]
    assert "[DONE]" not in answer.events


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_key_of_a_pool_is_tried_once(start, count):
    keys = [f"k{number}" for number in range(count)]
    gateway = start({"openai": keys}, document_fields={"failover": {"max_attempts": count}})
    for key in keys[:-1]:
        gateway.on(f"openai/{key}", rate_limited(30))
    answer = gateway.chat()
    assert answer.status == 200
    assert gateway.attempts == [f"openai/{key}" for key in keys]


def test_attempts_are_bounded(start):
    keys = [f"k{number}" for number in range(8)]
    gateway = start({"openai": keys}, document_fields={"failover": {"max_attempts": 3}})
    for key in keys:
        gateway.always(f"openai/{key}", error(500, "server_error", None))
    answer = gateway.chat()
    assert answer.status == 500
    assert len(gateway.attempts) <= 3


def test_an_error_of_the_last_resort_reaches_the_client_whole(start):
    gateway = start({"openai": ["a"]})
    failure = error(500, "server_error", None, "The server had an error")
    gateway.always("openai/a", failure)
    answer = gateway.chat()
    assert answer.status == 500
    assert json.loads(failure.body) == answer.json
    assert not [name for name in answer.headers if name in ("x-keyward-retry", "x-keyward-state")]
