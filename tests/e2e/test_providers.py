"""The provider table in a real Envoy: Azure's paths, known models, and answers that the official SDK's types take strictly."""

import json

import openai
import pytest
from harness import anthropic, replies
from harness.replies import rate_limited
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def test_azure_by_deployment_and_by_version_one(start):
    dated = {"kind": "azure", "host": "r.openai.azure.com", "api_version": "2024-10-21"}
    fields = {"dated": dated, "newest": {"kind": "azure", "host": "r.openai.azure.com"}}
    gateway = start({"dated": ["a"], "newest": ["b"]}, provider_fields=fields)
    gateway.on("dated/a", rate_limited(60))
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="of-the-client") as sdk:
        answer = sdk.chat.completions.create(model="fast", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == replies.TEXT
    assert gateway.attempts == ["dated/a", "newest/b"]
    first, second = gateway.requests
    assert first.path == "/openai/deployments/dated-model/chat/completions?api-version=2024-10-21"
    assert second.path == "/openai/v1/chat/completions"
    assert {seen.header("host") for seen in gateway.requests} == {"r.openai.azure.com"}
    assert [seen.header("authorization") for seen in gateway.requests] == [None, None]
    gateway.on("dated/a", rate_limited(60))
    assert gateway.client.post("/v1/responses", {"model": "fast", "input": "hello"}).status == 200
    assert gateway.requests[-1].path == "/openai/v1/responses"


def test_known_models_of_all_providers(start):
    fields = {"openai": {"kind": "openai"}, "groq": {"kind": "groq"}, "cerebras": {"kind": "cerebras"}}
    gateway = start({name: ["a"] for name in fields}, provider_fields=fields, document_fields={"models": "auto"})
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="of-the-client") as sdk:
        names = [model.id for model in sdk.models.list()]
        owner = sdk.models.retrieve("gpt-oss-120b").owned_by
    assert len(names) == len(set(names)) > 50
    assert {"gpt-5.5", "gpt-4o-mini", "whisper-large-v3", "gpt-oss-120b", "openai/gpt-oss-120b"} <= set(names)
    assert not [name for name in names if "*" in name]
    assert owner == "groq"
    gateway.on("groq/a", rate_limited(60))
    assert gateway.chat(model="gpt-oss-120b").status == 200
    assert gateway.attempts == ["groq/a", "cerebras/a"]
    assert [seen.json["model"] for seen in gateway.requests] == ["openai/gpt-oss-120b", "gpt-oss-120b"]
    assert gateway.chat(model="gpt-6-of-tomorrow").status == 200
    assert gateway.attempts[-1] == "openai/a"
    assert gateway.chat(model="claude-opus-5").code == "model_not_found"


def test_an_error_inside_a_success_of_minimax(start):
    gateway = start({"minimax": ["a", "b"]}, provider_fields={"minimax": {"kind": "minimax"}})
    rows = json.loads((anthropic.FIXTURES.parent / "compatible/minimax.json").read_text())
    gateway.on("minimax/a", replies.document(rows["exhausted"]["body"]))
    answer = gateway.chat()
    assert (answer.status, gateway.attempts) == (200, ["minimax/a", "minimax/b"])
    gateway.on("minimax/b", replies.document(rows["error"]["body"]))
    answer = gateway.chat()
    assert (answer.status, answer.json["error"]["message"]) == (400, "input new_sensitive")
    gateway.on("minimax/b", replies.stream(pieces=[replies.event(rows["error"]["body"])]))
    answer = gateway.chat(stream=True)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_answers_are_what_the_sdk_s_types_say(start, kind):
    """Without any leniency of the SDK's parser: every member that is there has its type."""
    gateway = start({kind: ["a"]}, provider_fields={kind: {"kind": kind}})
    if kind == "anthropic":
        gateway.always("anthropic/a", anthropic.answer)
    plain, streamed = gateway.chat(), gateway.chat(stream=True, stream_options={"include_usage": True})
    ChatCompletion.model_validate_json(plain.body, strict=True)
    calls = anthropic.fixture("tools.json") if kind == "anthropic" else replies.tool_call()
    gateway.on(f"{kind}/a", calls)
    called = ChatCompletion.model_validate_json(gateway.chat(tools=[TOOL]).body, strict=True)
    assert called.choices[0].message.tool_calls
    calls = anthropic.fixture("tools.sse") if kind == "anthropic" else replies.tool_call_stream()
    gateway.on(f"{kind}/a", calls)
    streams = [streamed, gateway.chat(stream=True, tools=[TOOL])]
    for answer in streams:
        assert answer.events[-1] == "[DONE]"
        for chunk in answer.events[:-1]:
            ChatCompletionChunk.model_validate_json(json.dumps(chunk), strict=True)
    if kind == "openai":
        body = gateway.client.post("/v1/embeddings", {"model": "fast", "input": "hello"}).body
        CreateEmbeddingResponse.model_validate_json(body, strict=True)
