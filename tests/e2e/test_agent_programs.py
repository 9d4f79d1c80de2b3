"""The released coding agents themselves, a turn with tools each, in front of providers of other formats."""

import json

import pytest
from harness import anthropic as claude
from harness import gemini, replies
from harness.agents import ANSWER, COMMAND, SIGNATURE, WORD, Place, answer_anthropic, answer_gemini, answer_openai, tools_of
from harness.gateway import Gateway, Setup

PROVIDERS = {"openai": ["a"], "anthropic": ["b"], "gemini": ["c"], "spent-openai": ["d"], "spent-anthropic": ["e"]}
KINDS = {"anthropic": "anthropic", "gemini": "gemini", "spent-anthropic": "anthropic"}
OPENAI = {"provider": "openai", "model": "gpt-5-mini"}
ANTHROPIC = {"provider": "anthropic", "model": claude.MODEL}
GEMINI = {"provider": "gemini", "model": gemini.MODEL}
MODELS = {
    "claude-opus-*": [OPENAI],
    "claude-sonnet-*": [GEMINI],
    "claude-haiku-*": [{"provider": "spent-anthropic", "model": claude.MODEL}, GEMINI],
    "gpt-5.5": [{"provider": "spent-openai"}, ANTHROPIC],
    "gpt-6.1-sol": [ANTHROPIC],
    "model-of-the-house": [ANTHROPIC],
}
FOREIGN = ("anthropic-beta", "x-claude-code-", "x-codex-", "openai-", "x-openai-")
"""What an agent says to its vendor and to no other."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    fields = {name: {"kind": kind} for name, kind in KINDS.items()}
    models = [{"name": name, "targets": targets} for name, targets in MODELS.items()]
    gateway = Gateway(Setup(PROVIDERS, models=models, provider_fields=fields), tmp_path_factory.mktemp("envoy"))
    gateway.always("openai/a", answer_openai)
    gateway.always("anthropic/b", answer_anthropic)
    gateway.always("gemini/c", answer_gemini)
    gateway.always("spent-openai/d", replies.rate_limited(60))
    gateway.always("spent-anthropic/e", claude.rate_limited(60))
    yield gateway
    gateway.stop()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def seen(gateway):
    """What the providers see of a turn. No request of it is refused: agents hide that by asking for less."""
    before = len(gateway.requests)
    refused = gateway.envoy.stats("http.gateway.downstream_rq_4xx")
    yield lambda: gateway.requests[before:]
    assert gateway.envoy.stats("http.gateway.downstream_rq_4xx") == refused
    of_the_turn = gateway.requests[before:]
    assert {request.key for request in of_the_turn} <= {*gateway.secrets.values()}
    for request in of_the_turn:
        if request.provider not in ("spent-openai", "spent-anthropic"):
            assert [name for name, _ in request.headers if name.startswith(FOREIGN)] == []


def assert_done(place: Place, answer: str):
    assert answer.strip() == ANSWER
    assert WORD in (place.folder / "copy.txt").read_text(), "the command ran"


def test_claude_code_in_front_of_openais_format(gateway, place, seen):
    assert_done(place, place.claude_code(gateway.port, "claude-opus-5-5"))
    first, found, last = seen()
    assert {request.path for request in (first, found, last)} == {"/v1/chat/completions"}
    assert first.json["messages"][0]["role"] == "system"
    assert {"ToolSearch", "Bash", "Read"} <= {*tools_of(first)}
    assert {*tools_of(found)} - {*tools_of(first)} == {"CronList"}, "what the search found is a tool"
    results = [message for message in last.json["messages"] if message["role"] == "tool"]
    calls = [call for message in last.json["messages"] for call in message.get("tool_calls", [])]
    assert [call["function"]["name"] for call in calls] == ["ToolSearch", "Bash"]
    assert json.loads(calls[1]["function"]["arguments"])["command"] == COMMAND
    assert [result["tool_call_id"] for result in results] == [call["id"] for call in calls]
    assert (results[0]["content"], WORD in results[1]["content"]) == ("The tool CronList is loaded.", True)
    assert first.json["reasoning_effort"] == "medium"


def assert_of_gemini(last):
    assert last.path == f"/v1beta/models/{gemini.MODEL}:streamGenerateContent?alt=sse"
    parts = [part for content in last.json["contents"] for part in content["parts"]]
    calls = [part for part in parts if "functionCall" in part]
    assert calls[-1]["functionCall"]["args"]["command"] == COMMAND
    assert {part["thoughtSignature"] for part in calls} == {SIGNATURE}
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    assert [result["name"] for result in results] == [part["functionCall"]["name"] for part in calls]
    assert WORD in results[-1]["response"]["output"]
    assert last.json["generationConfig"]["maxOutputTokens"] <= 65_535


def test_claude_code_in_front_of_gemini(gateway, place, seen):
    assert_done(place, place.claude_code(gateway.port, "claude-sonnet-5-5"))
    *_, last = seen()
    assert {request.provider for request in seen()} == {"gemini"}
    assert_of_gemini(last)


def test_claude_code_moves_on_within_a_turn(gateway, place, seen):
    assert_done(place, place.claude_code(gateway.port, "claude-haiku-5-5"))
    spent, *rest = seen()
    assert (spent.provider, {request.provider for request in rest}) == ("spent-anthropic", {"gemini"})
    assert spent.path == "/v1/messages?beta=true"
    assert spent.header("anthropic-beta"), "Anthropic itself is told"
    assert_of_gemini(rest[-1])


def assert_of_codex(first, last, tool: str):
    assert {request.path for request in (first, last)} == {"/v1/messages"}
    assert tool in tools_of(first)
    *_, turn, result = last.json["messages"]
    (call,) = [block for block in turn["content"] if block["type"] == "tool_use"]
    assert (call["name"], COMMAND.split()[0] in json.dumps(call["input"])) == (tool, True)
    (block,) = result["content"]
    assert (block["type"], block["tool_use_id"]) == ("tool_result", call["id"])
    assert WORD in json.dumps(block["content"])


def test_codex_moves_on_to_anthropic_within_a_turn(gateway, place, seen):
    assert_done(place, place.codex(gateway.port, "gpt-5.5"))
    spent, first, last = seen()
    assert (spent.provider, spent.path) == ("spent-openai", "/v1/responses")
    assert_of_codex(first, last, "exec_command")


def test_codex_with_its_tools_in_an_item_in_front_of_anthropic(gateway, place, seen):
    assert_done(place, place.codex(gateway.port, "gpt-6.1-sol"))
    first, last = seen()
    assert_of_codex(first, last, "functions__exec")


def test_opencode_in_front_of_anthropic(gateway, place, seen):
    assert_done(place, place.opencode(gateway.port, "model-of-the-house"))
    with_tools = [request for request in seen() if tools_of(request)]
    first, last = with_tools
    assert_of_codex(first, last, "bash")
