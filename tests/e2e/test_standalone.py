"""One stage: plans on what is known about the keys, and moves on for the next request."""

import pytest
from harness import replies
from harness.client import Client, chat_body
from harness.replies import rate_limited

MODES = ["headers", "body"]


def standalone(start, mode, providers=None, **fields):
    document = {"mode": mode, **fields.pop("document_fields", {})}
    return start(providers or {"openai": ["a", "b"]}, stage="standalone", document_fields=document, **fields)


def same_names(*names: str) -> list[dict]:
    """Models that the provider calls as the client does, so that the body need not change."""
    return [{"name": name, "targets": [{"provider": "openai"}]} for name in names]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_the_next_request_takes_the_next_key(start, mode, http2):
    gateway = standalone(start, mode, models=same_names("fast"), http2=http2)
    gateway.on("openai/a", rate_limited(30))
    assert gateway.chat().status == 429
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/a", "openai/b"]
    assert gateway.key("openai/a")["state"] == "resting"
    assert gateway.key("openai/b")["tokens"]["completion"] == 12


@pytest.mark.parametrize("mode", MODES)
def test_nothing_left_is_a_local_429(start, mode):
    gateway = standalone(start, mode, models=same_names("fast"))
    for key in ("openai/a", "openai/b"):
        gateway.on(key, rate_limited(30))
    first = [gateway.chat() for _ in range(2)]
    assert [answer.status for answer in first] == [429, 429]
    answer = gateway.chat()
    assert (answer.status, answer.code) == (429, "keys_temporarily_exhausted")
    assert 1 <= int(answer.headers["retry-after"]) <= 36
    assert len(gateway.attempts) == 2


@pytest.mark.parametrize("mode", MODES)
def test_streams_pass_and_are_counted(start, mode):
    gateway = standalone(start, mode, models=same_names("fast"))
    answer = gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.body == b"".join(replies.stream_events())
    assert gateway.key("openai/a")["requests"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_the_model_is_rewritten(start, mode):
    gateway = standalone(start, mode)
    assert gateway.chat().status == 200
    assert gateway.requests[0].json["model"] == "openai-model"


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_asked_for_no_usage_sees_none(start, mode):
    gateway = standalone(start, mode, models=same_names("fast"))
    answer = gateway.chat(stream=True)
    assert answer.status == 200
    assert not [event for event in answer.events if event != "[DONE]" and event.get("usage")]


@pytest.mark.parametrize("mode", MODES)
def test_ten_megabytes(start, mode):
    gateway = standalone(start, mode, models=same_names("fast"))
    text = "aé世👋" * 1_000_000
    assert gateway.chat(messages=[{"role": "user", "content": text}]).status == 200
    assert gateway.requests[0].json["messages"][0]["content"] == text


def test_the_route_names_the_provider_where_only_headers_are_known(start):
    models = [*same_names("fast"), {"name": "llama", "targets": [{"provider": "groq"}]}]
    gateway = standalone(start, "headers", {"openai": ["a"], "groq": ["c"]}, models=models)
    assert gateway.chat({"x-provider": "groq"}, model="llama").status == 200
    assert gateway.chat({"x-provider": "openai"}).status == 200
    assert gateway.attempts == ["groq/c", "openai/a"]


def test_the_model_names_the_provider_where_the_body_is_known(start):
    models = [*same_names("fast"), {"name": "llama", "targets": [{"provider": "groq"}]}]
    gateway = standalone(start, "body", {"openai": ["a"], "groq": ["c"]}, models=models)
    assert gateway.chat(model="llama").status == 200
    assert gateway.chat().status == 200
    assert gateway.attempts == ["groq/c", "openai/a"]


@pytest.mark.parametrize("mode", MODES)
def test_local_answers_need_no_provider(start, mode):
    gateway = standalone(start, mode)
    assert [model["id"] for model in gateway.client.get("/v1/models").json["data"]] == ["fast"]
    assert gateway.client.post("/v1/files", chat_body()).status == 404
    assert gateway.client.get("/keyward/status").status == 401
    assert gateway.requests == []


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_root_id_is_standalone(start, mode):
    def change(bootstrap):
        from harness.config import plugins

        for plugin in plugins(bootstrap):
            plugin["root_id"] = ""

    gateway = standalone(start, mode, models=same_names("fast"), change=change)
    client = Client(gateway.port, http2=True)
    assert client.chat().status == 200
    client.close()
