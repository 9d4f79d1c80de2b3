"""Bodies: large, compressed, chunked, with trailers; HTTP/1.1 and HTTP/2 on both sides."""

import dataclasses
import gzip
import json
import socket
from itertools import product

import pytest
from harness import replies
from harness.client import Client, chat_body
from harness.config import connection_manager
from harness.replies import rate_limited

TWO = {"openai": ["a", "b"], "groq": ["c"]}
HTTP = list(product([False, True], repeat=2))
HTTP_IDS = [f"{'h2' if down else 'h1'}-to-{'h2' if up else 'h1'}" for down, up in HTTP]


def large(size: int) -> dict:
    """With bytes of every length of UTF-8, so that no chunk boundary is safe."""
    text = "aé世👋" * (size // 10)
    return chat_body() | {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(("down", "up"), HTTP, ids=HTTP_IDS)
def test_ten_megabytes_still_move_on(start, down, up):
    gateway = start(TWO, http2=up)
    for key in ("openai/a", "openai/b"):
        gateway.on(key, rate_limited(30))
    body = json.dumps(large(10_000_000), ensure_ascii=False).encode()
    client = Client(gateway.port, http2=down)
    answer = client.post("/v1/chat/completions", body)
    client.close()
    assert answer.status == 200, answer
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]
    expected = [body.replace(b'"fast"', f'"{name}-model"'.encode()) for name in ("openai", "openai", "groq")]
    assert [seen.body == want for seen, want in zip(gateway.requests, expected, strict=True)] == [True] * 3
    assert {seen.protocol for seen in gateway.requests} == {"2" if up else "1.1"}


@pytest.mark.parametrize(("down", "up"), HTTP, ids=HTTP_IDS)
def test_a_large_answer_is_whole(start, down, up):
    gateway = start(TWO, http2=up)
    reply = replies.chat(text="aé世👋" * 500_000)
    gateway.on("openai/a", reply)
    client = Client(gateway.port, http2=down)
    answer = client.chat()
    client.close()
    assert (answer.status, answer.broken) == (200, None)
    assert answer.body == reply.body
    assert answer.protocol == ("HTTP/2" if down else "HTTP/1.1")
    assert gateway.key("openai/a")["tokens"]["completion"] == 12


def test_a_body_beyond_the_limit_is_a_413(start):
    gateway = start(TWO)
    answer = gateway.client.post("/v1/chat/completions", b'{"model":"fast","x":"' + b"x" * 34_000_000 + b'"}')
    assert answer.status == 413, answer
    assert gateway.requests == []


def test_a_body_one_byte_at_a_time(start):
    gateway = start(TWO)
    body = json.dumps(chat_body()).encode()
    single = (body[at : at + 1] for at in range(len(body)))
    assert gateway.client.post("/v1/chat/completions", single).status == 200
    assert gateway.requests[0].json == chat_body("openai-model")


def test_a_chunked_answer_one_byte_at_a_time_is_counted(start):
    gateway = start(TWO)
    reply = replies.chat()
    single = tuple(reply.body[at : at + 1] for at in range(len(reply.body)))
    gateway.on("openai/a", replies.Reply(200, reply.headers, single, "chunked", pace=0.0002))
    assert gateway.chat().body == reply.body
    assert gateway.key("openai/a")["tokens"]["prompt"] == 9


def test_a_gzipped_answer_passes_unharmed(start):
    gateway = start(TWO)
    reply = replies.gzipped(replies.chat())
    gateway.on("openai/a", reply)
    answer = gateway.chat({"accept-encoding": "gzip"})
    assert answer.status == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == gzip.decompress(reply.body)


def test_a_gzipped_429_is_still_understood(start):
    gateway = start(TWO)
    gateway.on("openai/a", replies.gzipped(rate_limited(30)))
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/a", "openai/b"]


def test_a_gzipped_request_is_refused_by_name(start):
    gateway = start(TWO)
    body = gzip.compress(json.dumps(chat_body()).encode())
    answer = gateway.client.post("/v1/chat/completions", body, {"content-encoding": "gzip"})
    assert answer.status == 415, answer
    assert "content-encoding" in answer.json["error"]["message"].lower()
    assert gateway.requests == []


def with_trailers(bootstrap: dict):
    connection_manager(bootstrap)["http_protocol_options"] = {"enable_trailers": True}


def test_a_request_with_trailers(start):
    gateway = start(TWO, change=with_trailers)
    body = json.dumps(chat_body()).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n"
            b"content-type: application/json\r\nconnection: close\r\n\r\n"
            b"%x\r\n%s\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(body), body)
        )
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert gateway.requests[0].json == chat_body("openai-model")


@pytest.mark.parametrize("first", ["a 429", "a stream that opens with an error", "an answer"])
def test_answers_with_trailers(start, first):
    gateway = start(TWO, http2=True)
    reply = {"a 429": rate_limited(30), "a stream that opens with an error": replies.error_in_stream()}.get(first, replies.chat())
    gateway.on("openai/a", dataclasses.replace(reply, trailers=(("x-trailer", "1"),)))
    assert gateway.chat().status == 200
    assert gateway.attempts == (["openai/a"] if first == "an answer" else ["openai/a", "openai/b"])
    assert sum(key["tokens"]["completion"] for key in gateway.status()["keys"]) == 12


def test_expect_continue(start):
    gateway = start(TWO)
    assert gateway.chat({"expect": "100-continue"}).status == 200


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_head_request_is_a_get_without_content(start, http2):
    """RFC 9110, section 9.3.2."""
    gateway = start(TWO, http2=http2)
    client = Client(gateway.port, http2)
    head, get = client.request("HEAD", "/v1/models"), client.get("/v1/models")
    assert (head.status, head.body) == (200, b"")
    assert [head.headers[name] for name in ("content-type", "content-length")] == [
        get.headers[name] for name in ("content-type", "content-length")
    ]
    assert client.request("HEAD", "/keyward/status").status == 401
    for method, path, allowed in [("HEAD", "/v1/chat/completions", "POST"), ("POST", "/v1/models", "GET, HEAD")]:
        answer = client.request(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
    client.close()


def test_an_empty_body_does_not_hang(start):
    answer = start(TWO).client.request("POST", "/v1/chat/completions")
    assert (answer.status, answer.code) == (400, "invalid_body")


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_the_clients_own_body_after_a_patched_one_is_whole(start, http2):
    """Headers persist between attempts, and so did the length of the patched body."""
    targets = [{"provider": "openai", "model": "a-name-that-is-much-longer"}, {"provider": "groq"}]
    gateway = start({"openai": ["a"], "groq": ["c"]}, models=[{"name": "fast", "targets": targets}], http2=http2)
    gateway.on("openai/a", rate_limited(60))
    assert gateway.chat().status == 200
    first, second = gateway.requests
    assert (first.json["model"], second.json["model"]) == ("a-name-that-is-much-longer", "fast")
    assert int(second.header("content-length")) == len(second.body)
