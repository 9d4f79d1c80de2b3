"""The providers as an independent mock, aimock, has them: the official SDKs in front of each, and what it breaks.

It refuses a request with a credential that is not one of its own, so an answer also says that the right one was sent
and none of the client's.
"""

import json

import anthropic
import openai
import pytest
from harness.config import Endpoint
from harness.gateway import Gateway, Setup, secret
from harness.mock import Aimock

TEXT = "Grüße, 世界 👋"
RAIN = "It rains in Köln."
FAULTS = ["drop", "rateLimit", "disconnect", "malformed"]
FIXTURES = [
    *({"match": {"model": fault}, "response": {"content": "never said"}, "chaos": {f"{fault}Rate": 1}} for fault in FAULTS),
    {"match": {"toolResultContains": "rain"}, "response": {"content": RAIN}},
    {
        "match": {"toolName": "weather", "hasToolResult": False},
        "response": {"toolCalls": [{"name": "weather", "arguments": {"city": "Köln"}}]},
    },
    {"match": {"userMessage": "hello"}, "response": {"content": TEXT}},
]
KINDS = {
    "openai": {},
    "azure": {"host": "r.openai.azure.com", "api_version": "2024-10-21"},
    "mistral": {},
    "anthropic": {},
    "gemini": {},
    "vertex": {"project": "project-1", "location": "europe-west4"},
    "bedrock": {"host": "bedrock-runtime.us-east-1.amazonaws.com"},
    "cohere": {},
}
PATHS = {
    "openai": "/v1/chat/completions",
    "azure": "/openai/deployments/azure-model/chat/completions?api-version=2024-10-21",
    "mistral": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/gemini-model:generateContent",
    "vertex": "/v1/projects/project-1/locations/europe-west4/publishers/google/models/vertex-model:generateContent",
    "bedrock": "/model/bedrock-model/converse",
    "cohere": "/v2/chat",
}
PROVIDERS = pytest.mark.parametrize("provider", KINDS)
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
BREAKING = ["openai", "anthropic", "gemini"]
"""Of the client's own format, what is malformed passes as it is."""
OTHER = {"provider": "mistral", "model": "mistral-model"}
CLIENT_KEY = "sk-of-the-client"
HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def aimock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    mock = Aimock(folder / "log", folder / "fixtures.json", [secret(provider, "right") for provider in KINDS])
    yield mock
    mock.stop()


@pytest.fixture(scope="module")
def gateway(aimock, tmp_path_factory):
    """Each provider has a key that the mock does not know, which is tried first, and one that it knows."""
    models = [{"name": name, "targets": [{"provider": name, "model": f"{name}-model"}]} for name in KINDS]
    models += [
        {"name": f"{provider}-{fault}", "targets": [{"provider": provider, "model": fault}, OTHER]}
        for provider in BREAKING
        for fault in FAULTS
    ]
    setup = Setup(
        {name: ["wrong", "right"] for name in KINDS},
        models=models,
        provider_fields={name: {"kind": name, **fields} for name, fields in KINDS.items()},
        elsewhere={name: Endpoint(aimock.port) for name in KINDS},
    )
    gateway = Gateway(setup, tmp_path_factory.mktemp("envoy"))
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def chat(gateway):
    address = f"http://127.0.0.1:{gateway.port}/v1"
    with openai.OpenAI(base_url=address, api_key=CLIENT_KEY, max_retries=0, _strict_response_validation=True) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def responses(gateway):
    """Not strict: where the mock's own answers pass as they are, they lack members."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=CLIENT_KEY, max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def messages(gateway):
    address = f"http://127.0.0.1:{gateway.port}"
    with anthropic.Anthropic(base_url=address, api_key=CLIENT_KEY, max_retries=0, _strict_response_validation=True) as sdk:
        yield sdk


def completion(chat: openai.OpenAI, streamed: bool, **asked):
    """The message of a chat completion, put together by the SDK where it is streamed."""
    if not streamed:
        return chat.chat.completions.create(**asked).choices[0].message
    with chat.chat.completions.stream(**asked) as stream:
        return stream.get_final_completion().choices[0].message


@STREAMED
@PROVIDERS
def test_chat_completions(gateway, chat, aimock, provider, streamed):
    assert completion(chat, streamed, model=provider, messages=HELLO).content == TEXT
    last = aimock.journal()[-1]
    assert last["path"] == path(provider, streamed)
    assert CLIENT_KEY not in json.dumps(last["headers"])
    assert (gateway.key(f"{provider}/wrong")["state"], gateway.key(f"{provider}/right")["state"]) == ("refused", "ready")


def path(provider: str, streamed: bool) -> str:
    if not streamed:
        return PATHS[provider]
    return PATHS[provider].replace(":generateContent", ":streamGenerateContent?alt=sse").replace("converse", "converse-stream")


@STREAMED
@PROVIDERS
def test_tools_of_chat_completions(chat, provider, streamed):
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    turn = [{"role": "user", "content": "How is the weather in Köln?"}]
    asked = completion(chat, streamed, model=provider, messages=turn, tools=[tool])
    (call,) = asked.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Köln"})
    turn += [asked.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "rain, 9 °C"}]
    assert completion(chat, streamed, model=provider, messages=turn, tools=[tool]).content == RAIN


def message(sdk: anthropic.Anthropic, streamed: bool, **asked):
    if not streamed:
        return sdk.messages.create(max_tokens=99, **asked)
    with sdk.messages.stream(max_tokens=99, **asked) as stream:
        return stream.get_final_message()


@STREAMED
@PROVIDERS
def test_messages_with_tools(messages, provider, streamed):
    tool = {"name": "weather", "input_schema": SCHEMA}
    turn = [{"role": "user", "content": "How is the weather in Köln?"}]
    asked = message(messages, streamed, model=provider, messages=turn, tools=[tool])
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    assert (asked.stop_reason, call.name, call.input) == ("tool_use", "weather", {"city": "Köln"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain, 9 °C"}]}
    turn += [{"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    answer = message(messages, streamed, model=provider, messages=turn, tools=[tool])
    assert [block.text for block in answer.content] == [RAIN]
    assert answer.stop_reason == "end_turn"


def response(sdk: openai.OpenAI, streamed: bool, **asked):
    if not streamed:
        return sdk.responses.create(**asked, store=False)
    with sdk.responses.stream(**asked, store=False) as stream:
        return stream.get_final_response()


@STREAMED
@PROVIDERS
def test_responses_with_tools(responses, provider, streamed):
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
    turn = [{"role": "user", "content": "How is the weather in Köln?"}]
    asked = response(responses, streamed, model=provider, input=turn, tools=[tool])
    (call,) = [item for item in asked.output if item.type == "function_call"]
    assert (asked.status, call.name, json.loads(call.arguments)) == ("completed", "weather", {"city": "Köln"})
    made = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    turn += [made, {"type": "function_call_output", "call_id": call.call_id, "output": "rain, 9 °C"}]
    assert response(responses, streamed, model=provider, input=turn, tools=[tool]).output_text == RAIN


@STREAMED
@pytest.mark.parametrize(
    ("provider", "fault"),
    [(provider, fault) for provider in BREAKING for fault in FAULTS if (provider, fault) != ("openai", "malformed")],
)
def test_what_it_breaks_another_provider_answers(chat, aimock, gateway, provider, fault, streamed):
    assert completion(chat, streamed, model=f"{provider}-{fault}", messages=HELLO).content == TEXT
    last = aimock.journal()[-1]
    assert (last["path"], last["body"]["model"]) == ("/v1/chat/completions", "mistral-model")
    if fault == "rateLimit":
        assert gateway.key(f"{provider}/right")["state"] == "resting" or gateway.key(f"{provider}/right")["models"]
