"""Vercel's `ai` package for Node.js, without any configuration but the address."""

import json
import subprocess

import pytest
from harness import replies
from harness.envoy import REPOSITORY
from harness.replies import rate_limited


def run(gateway, job: str):
    command = ["node", "vercel.mjs", f"http://127.0.0.1:{gateway.port}/v1", job]
    folder = REPOSITORY / "tests/e2e/node"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("job", ["text", "stream"])
def test_text(start, job):
    gateway = start({"openai": ["a", "b"]})
    gateway.on("openai/a", rate_limited(60))
    assert run(gateway, job) == {"text": replies.TEXT, "finishReason": "stop", "input": 9, "output": 12}
    assert gateway.attempts == ["openai/a", "openai/b"]


@pytest.mark.parametrize(("job", "reply"), [("tools", replies.tool_call), ("streamedTools", replies.tool_call_stream)])
def test_tools(start, job, reply):
    gateway = start({"openai": ["a", "b"]})
    gateway.on("openai/a", reply(), rate_limited(60))
    called = [{"toolName": "weather", "input": {"city": "Paris"}}]
    assert run(gateway, job) == {"text": replies.TEXT, "called": called}
    assert gateway.attempts == ["openai/a", "openai/a", "openai/b"], "the second step moved on"
    roles = [message["role"] for message in gateway.requests[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool"]


def test_embedding(start):
    assert run(start({"openai": ["a"]}), "embedding") == {"embedding": [0.25, -0.5, 1e-7]}


def test_the_429_is_of_the_sdks_own_type(start):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", rate_limited(60))
    refusal = run(gateway, "refusal")
    assert (refusal["name"], refusal["status"], refusal["retryable"]) == ("AI_APICallError", 429, True)
    assert "rate limit" in refusal["message"].lower() or "exhausted" in refusal["message"].lower()
