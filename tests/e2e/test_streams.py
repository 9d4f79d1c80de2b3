"""Streams: every byte as the provider sent it, whatever the chunks, and the usage counted."""

import time

import pytest
from harness import replies
from harness.replies import stream_events
from harness.upstream import Gate

USAGE = {"prompt": 9, "completion": 12, "cached": 4, "reasoning": 5}
WHOLE = b"".join(stream_events())
ASK = {"stream": True, "stream_options": {"include_usage": True}}


def await_tokens(gateway, key: str, expected: dict, times: int = 1):
    """The last of a stream is counted when Envoy is done with it, which the client may notice first."""
    expected = {kind: count * times for kind, count in expected.items()}
    deadline = time.monotonic() + 5
    while gateway.key(key)["tokens"] != expected:
        assert time.monotonic() < deadline, gateway.key(key)
        time.sleep(0.02)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_one_byte_at_a_time(start, http2, newline):
    gateway = start({"openai": ["a"]}, http2=http2)
    whole = WHOLE.replace(b"\n", newline)
    single = [whole[at : at + 1] for at in range(len(whole))]
    gateway.on("openai/a", replies.Reply(200, replies.EVENT_STREAM, tuple(single), "chunked", pace=0.0002))
    answer = gateway.chat(**ASK)
    assert (answer.body, answer.broken) == (whole, None)
    await_tokens(gateway, "openai/a", USAGE)


@pytest.mark.timeout(120)
def test_cut_at_every_byte(start):
    gateway = start({"openai": ["a"]})
    cuts = range(1, len(WHOLE))
    for cut in cuts:
        pieces = (WHOLE[:cut], WHOLE[cut:])
        gateway.on("openai/a", replies.Reply(200, replies.EVENT_STREAM, pieces, "chunked", pace=0.0002))
    for cut in cuts:
        assert gateway.chat(**ASK).body == WHOLE, cut
    await_tokens(gateway, "openai/a", USAGE, len(cuts))


@pytest.mark.timeout(120)
def test_cut_at_every_byte_with_the_usage_hidden(start):
    gateway = start({"openai": ["a"]})
    cuts = range(1, len(WHOLE))
    for cut in cuts:
        pieces = (WHOLE[:cut], WHOLE[cut:])
        gateway.on("openai/a", replies.Reply(200, replies.EVENT_STREAM, pieces, "chunked", pace=0.0002))
    for cut in cuts:
        assert gateway.chat(stream=True).body == replies.HIDDEN_USAGE, cut
    await_tokens(gateway, "openai/a", USAGE, len(cuts))


def test_usage_is_asked_for_and_hidden_from_a_client_that_did_not(start):
    gateway = start({"openai": ["a"]})
    answer = gateway.chat(stream=True)
    assert gateway.requests[0].json["stream_options"] == {"include_usage": True}
    assert answer.body == replies.HIDDEN_USAGE
    await_tokens(gateway, "openai/a", USAGE)


def test_a_refusal_of_usage_is_overruled_and_hidden(start):
    gateway = start({"openai": ["a"]})
    answer = gateway.chat(stream=True, stream_options={"include_usage": False})
    assert gateway.requests[0].json["stream_options"]["include_usage"] is True
    assert answer.body == replies.HIDDEN_USAGE


def test_a_client_that_asked_sees_the_usage(start):
    gateway = start({"openai": ["a"]})
    answer = gateway.chat(**ASK)
    assert answer.body == WHOLE
    assert answer.events[-2]["usage"] == replies.USAGE


def test_a_provider_can_be_spared_the_question(start):
    gateway = start({"openai": ["a"]}, provider_fields={"openai": {"include_usage": False}})
    answer = gateway.chat(stream=True)
    assert "stream_options" not in gateway.requests[0].json
    assert answer.body == b"".join(stream_events(usage=False))


def test_an_event_is_passed_on_when_it_arrives(start):
    gateway = start({"openai": ["a"]})
    gate = Gate()
    events = stream_events()
    gateway.on("openai/a", replies.stream(pieces=[*events[:2], gate, *events[2:]]))
    with gateway.client.streaming("POST", "/v1/chat/completions", chat_stream()) as (answer, pieces):
        assert answer.status == 200
        early = b""
        while early != b"".join(events[:2]):
            early += next(pieces)
        gate.open()
        assert early + b"".join(pieces) == WHOLE


def chat_stream() -> dict:
    return {"model": "fast", "messages": [{"role": "user", "content": "hello"}], **ASK}


def test_usage_seen_before_the_client_left_is_counted(start):
    gateway = start({"openai": ["a"]})
    never = Gate()
    first = replies.event(replies.chunk({"content": "x"}, usage=replies.USAGE))
    gateway.on("openai/a", replies.stream(pieces=[first, never]))
    with gateway.client.streaming("POST", "/v1/chat/completions", chat_stream()) as (answer, pieces):
        assert answer.status == 200
        assert next(pieces)
    await_tokens(gateway, "openai/a", USAGE)
    never.open()
    assert gateway.key("openai/a")["state"] == "ready", "the client's leaving is not the key's failure"
    assert gateway.key("openai/a")["requests"] == 1


def test_a_stream_that_breaks_still_counts_its_usage(start):
    gateway = start({"openai": ["a"]})
    first = replies.event(replies.chunk({"content": "x"}, usage=replies.USAGE))
    gate = Gate()
    gateway.on("openai/a", replies.stream(pieces=[first, gate, replies.Fault.RESET]))
    with gateway.client.streaming("POST", "/v1/chat/completions", chat_stream()) as (_, pieces):
        assert next(pieces)
        gate.open()
        list(pieces)
    await_tokens(gateway, "openai/a", USAGE)


def test_comments_and_keep_alives_pass_and_do_not_decide(start):
    gateway = start({"openai": ["a", "b"]})
    comment = b": OPENROUTER PROCESSING\n\n"
    limited = replies.event({"error": {"message": "Rate limited", "code": 429, "type": "rate_limit_exceeded"}})
    gateway.on("openai/a", replies.stream(pieces=[comment, comment, limited]))
    gateway.on("openai/b", replies.stream(pieces=[comment, *stream_events()]))
    answer = gateway.chat(**ASK)
    assert answer.status == 200
    assert answer.body == comment + WHOLE
    assert gateway.attempts == ["openai/a", "openai/b"]


def test_a_responses_stream_is_counted_and_identical(start):
    gateway = start({"openai": ["a"]})
    answer = gateway.client.post("/v1/responses", {"model": "fast", "input": "hello", "stream": True})
    assert answer.body == replies.responses_stream().body
    await_tokens(gateway, "openai/a", USAGE)


def test_a_failed_response_in_the_first_event_moves_on(start):
    gateway = start({"openai": ["a", "b"]})
    problem = {"code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 20s."}
    failed = replies.named_event("response.failed", response={"id": "r", "status": "failed", "error": problem})
    gateway.on("openai/a", replies.stream(pieces=[failed]))
    answer = gateway.client.post("/v1/responses", {"model": "fast", "input": "hello", "stream": True})
    assert answer.body == replies.responses_stream().body
    assert gateway.attempts == ["openai/a", "openai/b"]
    assert gateway.key("openai/a")["state"] == "resting"
