"""The scripted upstream does what the other tests take for granted; no Envoy here."""

import pytest
from harness import replies
from harness.client import Client
from harness.upstream import Fault, Gate, Reply, Upstream

KEY = {"authorization": "Bearer sk-1"}


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
def upstream(request):
    upstream = Upstream("openai", ["sk-1"], replies.answer, http2=request.param)
    upstream.client = Client(upstream.port, http2=request.param)
    yield upstream
    upstream.client.close()
    upstream.stop()


def test_a_known_key_is_answered_and_an_unknown_one_refused(upstream):
    assert upstream.client.chat(KEY).json["choices"][0]["message"]["content"] == replies.TEXT
    assert upstream.client.chat({"authorization": "Bearer sk-2"}).status == 401
    assert [seen.key for seen in upstream.requests] == ["sk-1", "sk-2"]
    assert upstream.requests[0].json["model"] == "fast"


def test_scripted_replies_come_first_and_once(upstream):
    upstream.on("sk-1", replies.rate_limited(7), replies.error(503))
    answers = [upstream.client.chat(KEY) for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 503, 200]
    assert answers[0].headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_break_the_message(upstream, fault):
    upstream.on("sk-1", replies.stream(pieces=[b"data: 1\n\n", fault]))
    answer = upstream.client.chat(KEY)
    assert answer.status == 200
    assert answer.body in (b"", b"data: 1\n\n")
    assert answer.broken


def test_a_gate_holds_the_rest_back(upstream):
    gate = Gate()
    upstream.on("sk-1", replies.stream(pieces=[b"data: 1\n\n", gate, b"data: 2\n\n"]))
    with upstream.client.streaming("POST", "/v1/chat/completions", b"{}", KEY) as (_, pieces):
        assert next(pieces) == b"data: 1\n\n"
        gate.open()
        assert b"".join(pieces) == b"data: 2\n\n"


def test_large_bodies_pass_both_ways(upstream):
    upstream.always("sk-1", lambda seen: Reply(200, (), (seen.body,)))
    body = bytes(range(256)) * 20_000
    assert upstream.client.post("/echo", body, KEY).body == body
