"""The official `@anthropic-ai/sdk` package for Node.js, in front of providers of both formats."""

import json
import subprocess

import pytest
from harness import anthropic as claude
from harness import replies
from harness.envoy import REPOSITORY

MODELS = [
    {"name": "gpt", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}]},
    {"name": "claude", "targets": [{"provider": "anthropic", "model": claude.MODEL}]},
]
KEYS = {"gpt": "openai/a", "claude": "anthropic/b"}


@pytest.fixture
def gateway(start):
    gateway = start({"openai": ["a"], "anthropic": ["b"]}, models=MODELS, provider_fields={"anthropic": {"kind": "anthropic"}})
    gateway.always("anthropic/b", native)
    return gateway


def native(seen):
    """Anthropic, to a client that names a version of its own."""
    return claude.events() if seen.json.get("stream") else claude.message()


def run(gateway, model: str, job: str):
    command = ["node", "anthropic.mjs", f"http://127.0.0.1:{gateway.port}", model, job]
    folder = REPOSITORY / "tests/e2e/node"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("model", "uncached"), [("gpt", 5), ("claude", 3)])
def test_chat_and_stream(gateway, model, uncached):
    expected = {"text": replies.TEXT, "stop": "end_turn", "input": uncached, "output": 12}
    assert run(gateway, model, "chat") == expected
    streamed = run(gateway, model, "stream")
    kinds = [kind for kind in streamed.pop("kinds") if kind != "ping"]
    assert "".join(streamed.pop("words")) == replies.TEXT
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert streamed == expected
    assert gateway.attempts == [KEYS[model]] * 2


@pytest.mark.parametrize("model", ["gpt", "claude"])
@pytest.mark.parametrize("job", ["tools", "streamedTools"])
def test_tools(gateway, model, job):
    streamed = job == "streamedTools"
    openais = replies.tool_call_stream() if streamed else replies.tool_call()
    gateway.on(KEYS[model], openais if model == "gpt" else claude.tool_call(streamed))
    called = [{"name": "weather", "input": {"city": "Paris"}}]
    assert run(gateway, model, job) == {"stop": "tool_use", "called": called, "text": replies.TEXT}
    first, last = (request.json for request in gateway.requests)
    assert [message["role"] for message in first["messages"]] == ["user"]
    _, turn, result = last["messages"]
    if model == "gpt":
        (call,) = turn["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
        assert (result["role"], result["tool_call_id"], result["content"]) == ("tool", call["id"], "rain in Paris")
    else:
        (call,) = [block for block in turn["content"] if block["type"] == "tool_use"]
        assert result["content"] == [{"type": "tool_result", "tool_use_id": call["id"], "content": "rain in Paris"}]


def test_tokens_are_counted(gateway):
    assert run(gateway, "gpt", "count") == {"input_tokens": 6}, "an estimate"
    assert gateway.requests == []
    gateway.on("anthropic/b", replies.document({"input_tokens": 7}))
    assert run(gateway, "claude", "count") == {"input_tokens": 7}
    assert [request.path for request in gateway.requests] == ["/v1/messages/count_tokens"]


def test_models(gateway):
    assert run(gateway, "none", "models") == [{"type": "model", "id": "gpt"}, {"type": "model", "id": "claude"}]


@pytest.mark.parametrize("model", ["gpt", "claude"])
def test_the_429_is_of_the_sdks_own_type(gateway, model):
    gateway.on(KEYS[model], replies.rate_limited(60) if model == "gpt" else claude.rate_limited(60))
    refusal = run(gateway, model, "refusal")
    assert (refusal["name"], refusal["status"]) == ("RateLimitError", 429)
    body = refusal["body"]
    assert (body["type"], body["error"]["type"]) == ("error", "rate_limit_error")
    assert body["error"]["details"]["error_code"] == "keys_temporarily_exhausted"
    assert 1 <= int(refusal["retryAfter"]) <= 60


def test_an_error_of_the_provider_and_one_of_ours(gateway):
    gateway.on("openai/a", replies.error(400, "invalid_request_error", None, "too long"))
    refusal = run(gateway, "gpt", "refusal")
    assert (refusal["name"], refusal["status"]) == ("BadRequestError", 400)
    assert refusal["body"] == {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}
    refusal = run(gateway, "none", "refusal")
    assert (refusal["name"], refusal["body"]["error"]["type"]) == ("NotFoundError", "not_found_error")


@pytest.mark.parametrize("model", ["gpt", "claude"])
def test_a_stream_that_breaks_off_is_an_error(gateway, model):
    broken = replies.stream(pieces=replies.stream_events()[:3]) if model == "gpt" else claude.events(claude.pieces()[:4])
    gateway.on(KEYS[model], broken)
    seen = run(gateway, model, "brokenStream")
    assert seen["type"] == "api_error"
    assert "message_stop" not in seen["kinds"]
    assert "content_block_delta" in seen["kinds"], "it had begun"
