"""Providers of other formats as llmock has them, each key limited by itself: exhaustion and translation at once."""

import dataclasses

import pytest
from harness.gateway import Gateway, Setup
from harness.mock import Llmock
from harness.upstream import Reply, Seen

KINDS = {"anthropic": "/anthropic/v1", "gemini": "/gemini/v1beta", "cohere": "/cohere/v2"}
PATHS = {"anthropic": "/anthropic/v1/messages", "gemini": "/gemini/v1beta/models/", "cohere": "/cohere/v2/chat"}
KEYS = [{"id": "a", "tier": 0}, {"id": "b", "tier": 0}]
PER_MINUTE = 2


@pytest.fixture
def llmock(tmp_path):
    mock = Llmock(tmp_path / "llmock.log", PER_MINUTE)
    yield mock
    mock.stop()


@pytest.fixture
def gateway(llmock, tmp_path):
    targets = {name: {"provider": name, "model": f"{name}-model"} for name in KINDS}
    models = [{"name": name, "targets": [target]} for name, target in targets.items()]
    models.append({"name": "any", "targets": [*targets.values()]})
    fields = {name: {"kind": name, "base_path": path} for name, path in KINDS.items()}
    gateway = Gateway(Setup({name: KEYS for name in KINDS}, models=models, provider_fields=fields), tmp_path / "envoy")
    for key in gateway.secrets:
        gateway.always(key, llmock.answer)
    yield gateway
    gateway.stop()


@pytest.mark.parametrize("told", [False, True], ids=["by-429", "by-what-remains"])
def test_a_key_that_is_exhausted_is_followed_by_another(gateway, llmock, told):
    """Three providers with two keys of two requests: twelve answers, whoever gives them, and then the hint."""

    async def without_counts(seen: Seen) -> Reply:
        reply = await llmock.answer(seen)
        return dataclasses.replace(reply, headers=tuple(field for field in reply.headers if "ratelimit" not in field[0]))

    for key in () if told else gateway.secrets:
        gateway.always(key, without_counts)
    for number in range(12):
        answer = gateway.chat(model="any", stream=number % 2 == 1)
        assert (answer.status, answer.broken) == (200, None), answer
        assert b"hello" in answer.body, "llmock repeats what it was asked"
    refused = gateway.chat(model="any")
    assert (refused.status, refused.code) == (429, "keys_temporarily_exhausted")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    answered = [request for request in gateway.requests if request.reply.status == 200]
    for name, path in PATHS.items():
        of_the_provider = [request for request in answered if request.provider == name]
        keys = sorted(request.key for request in of_the_provider)
        assert keys == sorted(2 * [gateway.secrets[f"{name}/a"], gateway.secrets[f"{name}/b"]])
        assert all(request.path.startswith(path) for request in of_the_provider)
    refusals = [request.key for request in gateway.requests if request.reply.status == 429]
    assert sorted(refusals) == ([] if told else sorted(gateway.secrets.values())), "at most once, and never for a client"


def test_a_client_of_messages_gets_the_hint_in_its_own_words(gateway):
    body = {"model": "gemini", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    answers = [gateway.client.post("/v1/messages", body) for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 4 + [429]
    assert ["hello" in answer.json["content"][0]["text"] for answer in answers[:4]] == [True] * 4
    assert (answers[4].json["type"], answers[4].json["error"]["type"]) == ("error", "rate_limit_error")
    assert 1 <= int(answers[4].headers["retry-after"]) <= 60
