"""Clients in front of Cohere: chat completions, embeddings and rerank."""

import json

import cohere as sdk_of_cohere
import openai
import pytest
from harness import chat, cohere, replies
from harness.chat import text_of
from harness.mock import Llmock

COHERE = {"cohere": {"kind": "cohere"}}
TARGET = {"provider": "cohere", "model": cohere.MODEL}
MODELS = [
    {"name": "command", "targets": [TARGET]},
    {"name": "embed", "targets": [{"provider": "cohere", "model": "embed-v4.0"}]},
    {"name": "rank", "targets": [{"provider": "cohere", "model": "rerank-v4.0-pro"}]},
    {"name": "fast", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, TARGET]},
]
ASK = chat.ask("command")
TOOLS = chat.tools("get_weather", "get_time")
RERANK = {"model": "rank", "query": "q", "documents": ["a", "b"], "top_n": 2}


@pytest.fixture
def gateway(start):
    gateway = start({"openai": ["a"], "cohere": ["b", "c"]}, models=MODELS, provider_fields=COHERE)
    for key in ("cohere/b", "cohere/c"):
        gateway.always(key, cohere.answer)
    return gateway


@pytest.fixture
def sdk(gateway):
    with chat.strict(gateway) as client:
        yield client


def test_chat(sdk, gateway):
    answer = sdk.chat.completions.create(**ASK, temperature=0)
    assert (answer.id, answer.model) == ("c-1", cohere.MODEL)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (replies.TEXT, "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 12)
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    (seen,) = gateway.requests
    assert (seen.header("host"), seen.path) == ("api.cohere.com", "/v2/chat")
    assert seen.header("authorization") == f"Bearer {gateway.secrets['cohere/b']}"
    assert (seen.json["model"], seen.json["temperature"]) == (cohere.MODEL, 0)


def test_stream(sdk, gateway):
    chunks = list(sdk.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert text_of(chunks) == replies.TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [21]
    assert gateway.key("cohere/b")["tokens"]["completion"] == 12


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_and_back(sdk, gateway, streamed):
    gateway.on("cohere/b", cohere.fixture("tools.sse" if streamed else "tools.json"))
    if streamed:
        with sdk.chat.completions.stream(**ASK, tools=TOOLS) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = sdk.chat.completions.create(**ASK, tools=TOOLS).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in message.tool_calls]
    told = [*ASK["messages"], message.model_dump(exclude_none=True), *results]
    assert sdk.chat.completions.create(model="command", messages=told, tools=TOOLS).choices[0].message.content == replies.TEXT
    _, turn, *given = gateway.requests[1].json["messages"]
    assert turn["tool_plan"] == "I will look."
    assert [call["id"] for call in turn["tool_calls"]] == ["get_weather_1a", "get_time_1b"]
    assert [(result["role"], result["tool_call_id"]) for result in given] == [("tool", "get_weather_1a"), ("tool", "get_time_1b")]


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(gateway, form):
    # Not strict: the SDK's own types know no base64, which it asks for by itself.
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as sdk:
        answer = sdk.embeddings.create(model="embed", input=["a", "b"], encoding_format=form)
        assert len(answer.data) == 2
        assert answer.usage.prompt_tokens == 3
        assert sdk.embeddings.create(model="embed", input="a").data[0].embedding == [0.5, -1.0]
    assert gateway.requests[0].json == {
        "model": "embed-v4.0",
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }


def test_rerank_with_coheres_own_client(gateway):
    with sdk_of_cohere.ClientV2(base_url=f"http://127.0.0.1:{gateway.port}", api_key="of-the-client") as client:
        answer = client.rerank(model="rank", query="q", documents=["a", "b"], top_n=2)
    assert [(result.index, result.relevance_score) for result in answer.results] == [(0, 0.9), (1, 0.8)]
    (seen,) = gateway.requests
    assert (seen.path, seen.json["model"], seen.json["top_n"]) == ("/v2/rerank", "rerank-v4.0-pro", 2)
    assert seen.header("authorization") == f"Bearer {gateway.secrets['cohere/b']}"


def test_rerank_moves_on(gateway):
    """Its bytes go on as they came, but for the name of the model."""
    body = '{"model": "rank" ,"query":"q","documents":["a"],"max_tokens_per_doc":1e2}'
    gateway.on("cohere/b", cohere.error(429, "slow down"))
    answer = gateway.client.post("/v1/rerank", body.encode())
    assert (answer.status, answer.json["results"][0]["index"]) == (200, 0)
    assert gateway.attempts == ["cohere/b", "cohere/c"]
    assert gateway.requests[1].body.decode() == body.replace('"rank"', '"rerank-v4.0-pro"')


def test_rerank_goes_only_where_it_is_known(start):
    """And to a server that has it under its own base path."""
    models = [{"name": "rank", "targets": [{"provider": "vllm"}]}, {"name": "gpt", "targets": [{"provider": "openai"}]}]
    fields = {"vllm": {"kind": "vllm", "host": "ranker.test"}}
    gateway = start({"openai": ["a"], "vllm": ["b"]}, models=models, provider_fields=fields)
    gateway.on("vllm/b", replies.document({"id": "r", "results": [], "usage": {"total_tokens": 7}}))
    assert gateway.client.post("/v1/rerank", json.dumps(RERANK).encode()).status == 200
    assert gateway.requests[0].path == "/v1/rerank"
    assert gateway.key("vllm/b")["tokens"]["prompt"] == 7
    assert gateway.client.post("/v1/rerank", json.dumps({**RERANK, "model": "gpt"}).encode()).status in (400, 404)
    assert len(gateway.requests) == 1


def test_rerank_is_an_endpoint_of_rules(start):
    consumers = [{"name": "everybody", "allow": {"endpoints": ["chat"]}}]
    gateway = start({"cohere": ["b"]}, models=MODELS[:3], provider_fields=COHERE, document_fields={"consumers": consumers})
    gateway.always("cohere/b", cohere.answer)
    assert gateway.client.post("/v1/rerank", json.dumps(RERANK).encode()).status == 403
    assert gateway.chat(**ASK).status == 200


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (cohere.error(429, "You are using a Trial key, which is limited to 20 API calls / minute."), "rate_limited"),
        (cohere.error(429, "You are using a Trial key, which is limited to 1000 API calls / month."), "out_of_quota"),
        (cohere.error(402, "please add a payment method"), "out_of_quota"),
        (cohere.error(401, "invalid api token"), "key_rejected"),
        (cohere.error(498, "invalid token"), "key_rejected"),
        (cohere.error(503, "overloaded"), None),
        (cohere.fixture("error-first.sse"), None),
        (cohere.fixture("timeout.sse"), None),
    ],
)
def test_every_failure_before_the_first_token_moves_on(start, reply, state):
    models = [{"name": "fast", "targets": [TARGET, {"provider": "openai", "model": "gpt-4o-mini"}]}]
    gateway = start({"cohere": ["b"], "openai": ["a"]}, models=models, provider_fields=COHERE)
    gateway.on("cohere/b", reply, reply)
    answer = gateway.chat(stream=True)
    assert (answer.status, answer.body) == (200, replies.HIDDEN_USAGE)
    if state:
        assert state in json.dumps(gateway.key("cohere/b")), gateway.status()


def test_a_stream_that_begins_on_openais_429_ends_on_cohere(sdk, gateway):
    gateway.on("openai/a", replies.rate_limited(30))
    chunks = list(sdk.chat.completions.create(**ASK | {"model": "fast"}, stream=True))
    assert text_of(chunks) == replies.TEXT
    assert {chunk.id for chunk in chunks} == {"c-1"}
    assert gateway.attempts == ["openai/a", "cohere/b"]


def test_a_stream_that_fails_ends_with_one_error(gateway):
    gateway.on("cohere/b", cohere.fixture("error-midstream.sse"))
    answer = gateway.chat(**ASK, stream=True)
    assert [event["error"]["message"] for event in answer.events if "error" in event] == ["internal server error"]
    assert "[DONE]" not in answer.events


def test_the_clients_faults_are_told_in_its_words(sdk, gateway):
    gateway.on("cohere/b", cohere.error(400, "invalid request: too many documents"))
    with pytest.raises(openai.BadRequestError) as error:
        sdk.chat.completions.create(**ASK)
    assert "too many documents" in error.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(**ASK, n=2)
    assert refused.value.param == "n"


def test_llmock(start, tmp_path):
    mock = Llmock(tmp_path / "llmock.log", 100)
    try:
        fields = {"cohere": {"kind": "cohere", "base_path": "/cohere/v2"}}
        gateway = start({"cohere": ["b"]}, models=MODELS[:1], provider_fields=fields)
        gateway.always("cohere/b", mock.answer)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as sdk:
            whole = sdk.chat.completions.create(**ASK).choices[0].message.content
            assert "hello" in whole
            assert text_of(list(sdk.chat.completions.create(**ASK, stream=True))) == whole
    finally:
        mock.stop()
