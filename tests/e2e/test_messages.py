"""Clients of Anthropic's Messages in front of providers of both formats."""

import json

import anthropic
import pytest
from harness import anthropic as upstream
from harness import replies
from harness.upstream import Fault, Gate

PROVIDERS = {"openai": ["a"], "anthropic": ["b", "c"]}
FIELDS = {"anthropic": {"kind": "anthropic"}}
MODELS = [
    {"name": "gpt", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}]},
    {"name": "claude", "targets": [{"provider": "anthropic", "model": upstream.MODEL}]},
    {
        "name": "fast",
        "targets": [{"provider": "anthropic", "model": upstream.MODEL}, {"provider": "openai", "model": "gpt-4o-mini"}],
    },
]
ASK = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
TOOLS = [
    {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "get_time")
]


@pytest.fixture
def gateway(start):
    gateway = start(PROVIDERS, models=MODELS, provider_fields=FIELDS)
    for key in ("anthropic/b", "anthropic/c"):
        gateway.always(key, upstream.answer)
    return gateway


@pytest.fixture
def sdk(gateway):
    address = f"http://127.0.0.1:{gateway.port}"
    # Strict: an answer that is not of the published types is an error.
    with anthropic.Anthropic(
        base_url=address, api_key="of-the-client", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_chat(sdk, gateway):
    answer = sdk.messages.create(model="gpt", **ASK)
    assert [block.text for block in answer.content] == [replies.TEXT]


def test_stream(sdk, gateway):
    with sdk.messages.stream(model="gpt", **ASK) as stream:
        assert list(stream)
        answer = stream.get_final_message()
    assert [block.text for block in answer.content] == [replies.TEXT]
