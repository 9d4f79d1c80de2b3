"""The official `openai` package for Node.js, without any configuration but the address."""

import json
import subprocess

from harness import replies
from harness.envoy import REPOSITORY
from harness.replies import rate_limited


def run(gateway, job: str):
    command = ["node", "client.mjs", f"http://127.0.0.1:{gateway.port}/v1", job]
    folder = REPOSITORY / "tests/e2e/node"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_models_chat_stream_embeddings_and_responses(start):
    gateway = start({"openai": ["a", "b"]})
    gateway.on("openai/a", rate_limited(60))
    assert run(gateway, "surface") == {
        "models": ["fast"],
        "chat": replies.TEXT,
        "stream": replies.TEXT,
        "embedding": [0.25, -0.5, 1e-7],
        "response": replies.TEXT,
    }
    assert gateway.attempts == ["openai/a", *["openai/b"] * 4]


def test_back_off_on_our_429_and_success_after_the_hint(start):
    gateway = start({"openai": ["a", "b"]})
    for key in ("openai/a", "openai/b"):
        gateway.on(key, rate_limited(1))
    result = run(gateway, "chat")
    assert result["chat"] == replies.TEXT
    assert 800 < result["milliseconds"] < 10_000
    assert len(gateway.attempts) == 3, "two exhausted, and one that succeeded after the hint"


def test_the_429_is_of_the_sdks_own_type(start):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", rate_limited(60))
    expected = {"name": "RateLimitError", "status": 429, "code": "keys_temporarily_exhausted", "type": "rate_limit_error"}
    assert run(gateway, "refusal") == expected
