"""The released coding agents as programs: a home of their own, loopback alone, and models that are scripted.

Everything that would leave the machine goes to a proxy that refuses, so that a test does not depend on a vendor.
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

from . import anthropic, gemini, replies
from .envoy import REPOSITORY
from .upstream import Reply, Seen

PROGRAMS = REPOSITORY / "tests/e2e/node/agents/node_modules/.bin"
CLIENT_KEY = "sk-of-the-client"
WORD = "walrus"
"""What is in the file that an agent is asked about."""
ANSWER = f"The word is {WORD}."
QUESTION = "What is the secret word in note.txt?"
COMMAND = "cp note.txt copy.txt && cat note.txt"


class Place:
    """Where an agent works, and what it calls its home."""

    def __init__(self, path: Path):
        self.home, self.folder = path / "home", path / "work"
        self.home.mkdir()
        self.folder.mkdir()
        (self.folder / "note.txt").write_text(f"The word: {WORD}\n")

    def run(self, program: str, *arguments: str, **variables: str) -> list[dict]:
        """What the program printed, which is one JSON value a line."""
        assert (PROGRAMS / program).exists(), f"{PROGRAMS / program} is missing: run `make test-e2e`, which installs it"
        proxies = {f"{name}_PROXY": "http://127.0.0.1:9" for name in ("HTTP", "HTTPS", "ALL")}
        proxies |= {"NO_PROXY": "127.0.0.1"}
        proxies |= {name.lower(): value for name, value in proxies.items()}
        homes = {f"XDG_{name}_HOME": str(self.home / name.lower()) for name in ("DATA", "CACHE", "CONFIG", "STATE")}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TERM": "dumb", "LANG": "C.UTF-8"}
        ran = subprocess.run(
            [str(PROGRAMS / program), *arguments],
            cwd=self.folder,
            env=environment | homes | proxies | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert ran.returncode == 0, f"{program} ended with {ran.returncode}:\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def claude_code(self, port: int, model: str) -> str:
        variables = {
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
            "ANTHROPIC_API_KEY": CLIENT_KEY,
            "CLAUDE_CONFIG_DIR": str(self.home / ".claude"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        options = ["--output-format", "json", "--allowedTools", "Bash", "--model", model]
        (result,) = self.run("claude", "-p", QUESTION, *options, **variables)
        assert (result["subtype"], result["is_error"]) == ("success", False), result
        return result["result"]

    def codex(self, port: int, model: str) -> str:
        folder = self.home / ".codex"
        folder.mkdir()
        (folder / "config.toml").write_text(f'''
            model = "{model}"
            model_provider = "keyward"
            approval_policy = "never"
            sandbox_mode = "danger-full-access"
            check_for_update_on_startup = false
            analytics.enabled = false

            [model_providers.keyward]
            name = "Keyward"
            base_url = "http://127.0.0.1:{port}/v1"
            env_key = "CLIENT_KEY"
            wire_api = "responses"
            request_max_retries = 0
            stream_max_retries = 0
        ''')
        variables = {"CODEX_HOME": str(folder), "CLIENT_KEY": CLIENT_KEY}
        events = self.run("codex", "exec", "--skip-git-repo-check", "--json", QUESTION, **variables)
        assert events[-1]["type"] == "turn.completed", events
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        (command,) = [item for item in items if item["type"] == "command_execution"]
        assert (command["exit_code"], command["status"]) == (0, "completed"), command
        return items[-1]["text"]

    def opencode(self, port: int, model: str) -> str:
        options = {"baseURL": f"http://127.0.0.1:{port}/v1", "apiKey": CLIENT_KEY}
        provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {model: {}}}
        name = f"keyward/{model}"
        permission = {"bash": "allow"}
        configuration = {"provider": {"keyward": provider}, "model": name, "small_model": name, "permission": permission}
        variables = {
            "OPENCODE_CONFIG_CONTENT": json.dumps(configuration | {"autoupdate": False, "share": "disabled"}),
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        }
        events = self.run("opencode", "run", "--format", "json", QUESTION, **variables)
        assert "error" not in [event["type"] for event in events], events
        return [event["part"]["text"] for event in events if event["type"] == "text"][-1]


# --- models that call a tool and then say what it found, in the format of a provider ---


def answer_openai(seen: Seen) -> Reply:
    messages = seen.json["messages"]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if call := _next(results, tools_of(seen)):
        name, given = call
        return _numbered(replies.tool_call_stream(name, json.dumps(given)), len(messages))
    return _numbered(replies.stream(pieces=replies.stream_events(words=[_said(results)])), len(messages))


def answer_anthropic(seen: Seen) -> Reply:
    messages = seen.json["messages"]
    blocks = [block for message in messages for block in message["content"] if isinstance(block, dict)]
    results = [json.dumps(block["content"]) for block in blocks if block["type"] == "tool_result"]
    if call := _next(results, tools_of(seen)):
        name, given = call
        return _numbered(anthropic.tool_call(True, name, json.dumps(given)), len(messages))
    return _numbered(anthropic.events(anthropic.pieces([_said(results)])), len(messages))


def answer_gemini(seen: Seen) -> Reply:
    contents = seen.json["contents"]
    parts = [part for content in contents for part in content["parts"]]
    results = [json.dumps(part["functionResponse"]["response"]) for part in parts if "functionResponse" in part]
    if call := _next(results, tools_of(seen)):
        name, given = call
        called = {"functionCall": {"name": name, "args": given}, "thoughtSignature": SIGNATURE}
        values = [gemini.value([{"text": "A note.", "thought": True}]), gemini.value([called], "STOP")]
        return _numbered(gemini.events([replies.event(value) for value in values]), len(contents))
    return _numbered(gemini.events(gemini.pieces([_said(results)])), len(contents))


SIGNATURE = "c2lnbmF0dXJl"
"""Gemini's, without which a call must not come back."""


def tools_of(seen: Seen) -> list[str]:
    """The names of the tools that a request has, in any format."""
    tools = [tool for given in seen.json.get("tools", []) for tool in given.get("functionDeclarations", [given])]
    return [tool.get("function", tool)["name"] for tool in tools]


def _next(results: list[str], tools: list[str]) -> tuple[str, dict] | None:
    """What a model calls who has tools and has seen these results: a search for tools where there is one, then the
    command."""
    if "ToolSearch" in tools and not results:
        return "ToolSearch", {"query": "select:CronList", "max_results": 1}
    if len(results) > ("ToolSearch" in tools):
        return None
    described = {"command": COMMAND, "description": "Copies and reads the note"}
    script = f"const ran = await tools.exec_command({{cmd: {json.dumps(COMMAND)}}});\ntext(ran.output);"
    commands = {
        "Bash": described,
        "bash": described,
        "exec_command": {"cmd": COMMAND},
        "functions__exec": {"input": script},
    }
    return next(((name, given) for name, given in commands.items() if name in tools), None)


def _said(results: list[str]) -> str:
    return ANSWER if any(WORD in result for result in results) else "I have not seen it."


def _numbered(reply: Reply, number: int) -> Reply:
    """With ids of its own: agents take answers of one id for one answer."""
    ids = [(old, b"%s_%d" % (old, number)) for old in (b"chatcmpl-1", b"msg_1", b"resp_1", b"call_1_aB3", b"toolu_1")]
    pieces = list(reply.pieces)
    for old, new in ids:
        pieces = [piece.replace(old, new) if isinstance(piece, bytes) else piece for piece in pieces]
    return dataclasses.replace(reply, pieces=tuple(pieces))
