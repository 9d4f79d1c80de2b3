"""Turns of coding agents with tools, replayed from what the programs sent, in front of providers of other formats."""

import json

import pytest
from harness import anthropic as claude
from harness import gemini, replies
from harness.envoy import REPOSITORY
from harness.replies import chunk, event

FIXTURES = REPOSITORY / "tests/fixtures/agents"
PROVIDERS = {"openai": ["a"], "anthropic": ["b"], "gemini": ["c"]}
FIELDS = {"anthropic": {"kind": "anthropic"}, "gemini": {"kind": "gemini"}}
TARGETS = {
    "openai": {"provider": "openai", "model": "gpt-5-mini"},
    "anthropic": {"provider": "anthropic", "model": claude.MODEL},
    "gemini": {"provider": "gemini", "model": gemini.MODEL},
}
PATCH = "*** Begin Patch\n*** Add File: ä.txt\n+hi\n*** End Patch\n"
OUTPUT = "Process exited with code 0\nOutput:\nnote.txt\n"


def agent(name: str) -> dict:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.fixture
def behind(start):
    """A gateway whose model, whatever the agent calls it, is that of the providers."""

    def behind(*providers: str):
        targets = [TARGETS[provider] for provider in providers]
        models = [{"name": name, "targets": targets} for name in ("agent", "gpt-5.5")]
        gateway = start(PROVIDERS, models=models, provider_fields=FIELDS)
        gateway.always("anthropic/b", claude.answer)
        gateway.always("gemini/c", gemini.answer)
        return gateway

    return behind


def ask(gateway, sent: dict, body: dict) -> list[dict]:
    answer = gateway.client.post(sent["path"], body, sent["headers"])
    assert (answer.status, answer.headers["content-type"], answer.broken) == (200, "text/event-stream", None), answer
    assert "[DONE]" not in answer.events
    return answer.events


def assert_foreign_to(seen, *prefixes: str):
    """What an agent says to its vendor is told to no other."""
    assert [name for name, _ in seen.headers if name.startswith(prefixes)] == []
    assert not seen.header("authorization") or "of-the-client" not in seen.header("authorization")
    assert b"00000000-0000-" not in seen.body, "no session, no device"


# --- Claude Code ---

OF_CLAUDE_CODE = ("anthropic-", "x-api-key", "x-claude-code-")
BASH = {"command": "ls", "description": "Lists files"}


def openais_calls() -> replies.Reply:
    deltas = [{"role": "assistant", "content": None}, {"content": "I look."}]
    for index, (name, pieces) in enumerate(
        [("Bash", ('{"command":"ls","descr', 'iption":"Lists files"}')), ("CronList", ("{}",))]
    ):
        head = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        deltas.append({"tool_calls": [head]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    end = [chunk({}, "tool_calls"), chunk({}) | {"choices": [], "usage": replies.USAGE}, "[DONE]"]
    return replies.stream(pieces=[event(piece) for piece in [*map(chunk, deltas), *end]])


def geminis_calls() -> replies.Reply:
    calls = [{"functionCall": {"name": "Bash", "args": BASH}, "thoughtSignature": "c2ln"}, {"functionCall": {"name": "CronList"}}]
    parts = [[{"text": "A listing.", "thought": True}], [{"text": "I look."}], calls]
    return gemini.events([*(event(gemini.value(part)) for part in parts), event(gemini.value([{"text": ""}], "STOP"))])


def blocks_of(events: list[dict]) -> list[dict]:
    """The content of a streamed message, whose events have to be in order."""
    blocks = []
    assert [told["type"] for told in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    is_open = False
    for told in events[1:-2]:
        match told["type"]:
            case "content_block_start":
                assert (is_open, told["index"]) == (False, len(blocks))
                is_open = True
                blocks.append(told["content_block"] | {"text_of_input": ""})
            case "content_block_delta":
                assert (is_open, told["index"]) == (True, len(blocks) - 1)
                delta = dict(told["delta"])
                kind = delta.pop("type")
                if kind == "input_json_delta":
                    blocks[-1]["text_of_input"] += delta["partial_json"]
                elif kind == "signature_delta":
                    blocks[-1]["signature"] = delta["signature"]
                else:
                    ((member, text),) = delta.items()
                    blocks[-1][member] += text
            case "content_block_stop":
                assert (is_open, told["index"]) == (True, len(blocks) - 1)
                is_open = False
            case other:
                assert other == "ping"
    assert not is_open
    for block in blocks:
        text = block.pop("text_of_input")
        if block.get("citations", []) is None:
            del block["citations"]
        if block["type"] == "tool_use":
            block["input"] = json.loads(text or "{}")
    return blocks


def with_results(body: dict, blocks: list[dict]) -> dict:
    """Claude Code's next request: the mark of the cache moves to the last result."""
    (first,) = json.loads(json.dumps(body["messages"]))
    del first["content"][-1]["cache_control"]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    results = [{"tool_use_id": call["id"], "type": "tool_result", "content": "note.txt", "is_error": False} for call in calls]
    results[1:] = [result | {"is_error": True} for result in results[1:]]
    results[-1]["cache_control"] = {"type": "ephemeral"}
    return body | {"messages": [first, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]}


def test_claude_code_in_front_of_openais_format(behind):
    gateway, sent = behind("openai"), agent("claude-code")
    gateway.on("openai/a", openais_calls())
    events = ask(gateway, sent, sent["body"])
    text, bash, cron = blocks_of(events)
    assert text == {"type": "text", "text": "I look."}
    assert (bash["type"], bash["name"], bash["input"]) == ("tool_use", "Bash", BASH)
    assert (cron["type"], cron["name"], cron["input"]) == ("tool_use", "CronList", {})
    assert events[-2]["delta"]["stop_reason"] == "tool_use"

    events = ask(gateway, sent, with_results(sent["body"], [text, bash, cron]))
    assert blocks_of(events) == [{"type": "text", "text": replies.TEXT}]
    assert (events[-2]["delta"]["stop_reason"], events[-2]["usage"]["output_tokens"]) == ("end_turn", 12)

    first, second = gateway.requests
    for seen in (first, second):
        assert seen.path == "/v1/chat/completions"
        assert_foreign_to(seen, *OF_CLAUDE_CODE)
        assert {*seen.json} - {"reasoning_effort"} == {
            "model", "messages", "tools", "max_completion_tokens", "stream", "stream_options",
        }  # fmt: skip
        assert b"cache_control" not in seen.body
        tools = [tool["function"] for tool in seen.json["tools"]]
        own = sent["body"]["tools"]
        assert [(tool["name"], tool["description"], tool["parameters"]) for tool in tools] == [
            (tool["name"], tool["description"], tool["input_schema"]) for tool in own
        ]
    *_, asked, turn, result, failed = second.json["messages"]
    assert asked["role"] == "user"
    assert [message["role"] for message in first.json["messages"]][-1] == "user"
    assert [(call["id"], call["function"]["name"]) for call in turn["tool_calls"]] == [("call_0", "Bash"), ("call_1", "CronList")]
    assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == BASH
    assert (turn["role"], turn["content"]) == ("assistant", "I look.")
    assert (result, failed["tool_call_id"]) == ({"role": "tool", "tool_call_id": "call_0", "content": "note.txt"}, "call_1")
    assert failed["content"] == "The tool failed: note.txt"


def test_claude_code_in_front_of_gemini(behind):
    gateway, sent = behind("gemini"), agent("claude-code")
    gateway.on("gemini/c", geminis_calls())
    events = ask(gateway, sent, sent["body"])
    blocks = blocks_of(events)
    called = [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    assert called == [("Bash", BASH), ("CronList", {})]
    assert next(block["thinking"] for block in blocks if block["type"] == "thinking") == "A listing."
    assert events[-2]["delta"]["stop_reason"] == "tool_use"

    events = ask(gateway, sent, with_results(sent["body"], blocks))
    assert blocks_of(events) == [{"type": "text", "text": replies.TEXT}]
    assert events[-2]["delta"]["stop_reason"] == "end_turn"

    for seen in gateway.requests:
        assert seen.path == f"/v1beta/models/{gemini.MODEL}:streamGenerateContent?alt=sse"
        assert_foreign_to(seen, *OF_CLAUDE_CODE)
        assert {*seen.json} == {"contents", "systemInstruction", "tools", "generationConfig"}
        assert b"cache_control" not in seen.body
        (declared,) = seen.json["tools"]
        assert [tool["name"] for tool in declared["functionDeclarations"]] == [tool["name"] for tool in sent["body"]["tools"]]
    _, turn, given = gateway.requests[1].json["contents"]
    calls = [part for part in turn["parts"] if "functionCall" in part]
    assert [part["functionCall"]["name"] for part in calls] == ["Bash", "CronList"]
    assert (calls[0]["functionCall"]["args"], calls[0]["thoughtSignature"]) == (BASH, "c2ln")
    assert [part["functionResponse"]["name"] for part in given["parts"]] == ["Bash", "CronList"]


def test_claude_code_moves_on_from_anthropic_within_a_turn(behind):
    gateway, sent = behind("anthropic", "openai"), agent("claude-code")
    gateway.on("anthropic/b", claude.tool_call(True), claude.rate_limited())
    blocks = blocks_of(ask(gateway, sent, sent["body"]))
    assert [(block["id"], block["input"]) for block in blocks] == [("toolu_1", {"city": "Paris"})]
    body = with_results(sent["body"], [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, *blocks])
    assert blocks_of(ask(gateway, sent, body)) == [{"type": "text", "text": replies.TEXT}]
    assert gateway.attempts == ["anthropic/b", "anthropic/b", "openai/a"]
    first, second, last = gateway.requests
    for seen, own in ((first, sent["body"]), (second, body)):
        assert (seen.path, seen.header("anthropic-beta")) == (sent["path"], sent["headers"]["anthropic-beta"])
        assert seen.json == own | {"model": claude.MODEL}
    assert_foreign_to(last, *OF_CLAUDE_CODE)
    assert [message.get("tool_call_id") for message in last.json["messages"]][-1] == "toolu_1"


# --- Codex ---

OF_CODEX = ("x-codex-", "openai-", "x-openai-")


def anthropics_calls(*calls: tuple[str, dict]) -> replies.Reply:
    """Thinking, a text, and calls of tools."""
    head = json.loads(claude.message().body) | {"content": [], "stop_reason": None}
    blocks = [
        ({"type": "thinking", "thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": "A listing."}, {"type": "signature_delta", "signature": "EqQBCg=="}]),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "I look."}]),
    ]  # fmt: skip
    for number, (name, given) in enumerate(calls):
        text = json.dumps(given)
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", text[:5], text[5:])]
        blocks.append(({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}, deltas))
    pieces = [claude.named("message_start", message=head)]
    for index, (block, deltas) in enumerate(blocks):
        pieces.append(claude.named("content_block_start", index=index, content_block=block))
        pieces += [claude.named("content_block_delta", index=index, delta=delta) for delta in deltas]
        pieces.append(claude.named("content_block_stop", index=index))
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    pieces.append(claude.named("message_delta", delta=end, usage={"output_tokens": 12}))
    return claude.events([*pieces, claude.named("message_stop")])


def items_of(events: list[dict]) -> list[dict]:
    """What Codex takes of a streamed response: its items, done in order, and its end."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1], kinds.count("response.completed")) == ("response.created", "response.completed", 1)
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert added == [event["output_index"] for event in done] == list(range(len(done)))
    items = [event["item"] for event in done]
    assert events[-1]["response"]["output"] == items
    return items


def with_outputs(body: dict, items: list[dict]) -> dict:
    """Codex's next request."""
    told = [item | {"content": None} if item["type"] == "reasoning" else item for item in items]
    outputs = [
        {"type": f"{item['type']}_output", "id": f"out_{item['call_id']}", "call_id": item["call_id"], "output": OUTPUT}
        for item in items
        if item["type"].endswith("_call")
    ]
    return body | {"input": [*body["input"], *told, *outputs]}


@pytest.mark.parametrize(
    ("name", "tool", "given", "expected"),
    [
        ("codex", "multi_agent_v1__close_agent", {"target": "a"},
         {"type": "function_call", "namespace": "multi_agent_v1", "name": "close_agent", "arguments": {"target": "a"}}),
        ("codex-known-model", "apply_patch", {"input": PATCH},
         {"type": "custom_tool_call", "name": "apply_patch", "input": PATCH}),
    ],
)  # fmt: skip
def test_codex_in_front_of_anthropic(behind, name, tool, given, expected):
    gateway, sent = behind("anthropic"), agent(name)
    gateway.on("anthropic/b", anthropics_calls(("exec_command", {"cmd": "ls"}), (tool, given)))
    events = ask(gateway, sent, sent["body"])
    items = items_of(events)
    thought, text, command, other = items
    assert thought["summary"] == [{"type": "summary_text", "text": "A listing."}]
    assert thought["encrypted_content"], "asked for"
    assert text["content"][0]["text"] == "I look."
    assert (command["type"], command["name"], command["call_id"]) == ("function_call", "exec_command", "toolu_0")
    assert json.loads(command["arguments"]) == {"cmd": "ls"}
    got = other | ({"arguments": json.loads(other["arguments"])} if "arguments" in other else {})
    assert {member: got[member] for member in expected} == expected
    response = events[-1]["response"]
    assert (response["status"], response["usage"]["output_tokens"], response["store"]) == ("completed", 12, False)

    (last,) = items_of(ask(gateway, sent, with_outputs(sent["body"], items)))
    assert last["content"][0]["text"] == replies.TEXT

    names = [tool["name"] for tool in sent["body"]["tools"] if tool["type"] in ("function", "custom")]
    spaces = [tool for tool in sent["body"]["tools"] if tool["type"] == "namespace"]
    names += [f"{space['name']}__{tool['name']}" for space in spaces for tool in space["tools"]]
    for seen in gateway.requests:
        assert seen.path == "/v1/messages"
        assert_foreign_to(seen, *OF_CODEX)
        assert {*seen.json} - {"thinking", "output_config"} == {
            "model", "max_tokens", "system", "messages", "tools", "tool_choice", "stream",
        }  # fmt: skip
        assert sorted(tool["name"] for tool in seen.json["tools"]) == sorted(names), "no search of the web or for tools"
    _, turn, results = gateway.requests[1].json["messages"]
    first, *_, call, patch = turn["content"]
    assert first == {"type": "thinking", "thinking": "A listing.", "signature": "EqQBCg=="}
    assert (call["name"], call["input"]) == ("exec_command", {"cmd": "ls"})
    assert (patch["name"], patch["input"]) == (tool, given)
    assert [(block["type"], block["tool_use_id"]) for block in results["content"]] == [
        ("tool_result", "toolu_0"),
        ("tool_result", "toolu_1"),
    ]
    assert all(block["content"] in (OUTPUT, [{"type": "text", "text": OUTPUT}]) for block in results["content"])
