"""The official `openai` package for Python, without any configuration but the address."""

import time

import openai
import pytest
from harness import replies
from harness.gateway import Gateway
from harness.replies import rate_limited

MODELS = [{"name": name, "targets": [{"provider": "openai"}]} for name in ("fast", "text-embedding-3-small")]


@pytest.fixture
def gateway(start) -> Gateway:
    return start({"openai": ["a", "b"]}, models=MODELS)


@pytest.fixture
def sdk(gateway):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="of-the-client") as client:
        yield client


ASK = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}


def test_list_models(sdk):
    assert [model.id for model in sdk.models.list()] == ["fast", "text-embedding-3-small"]
    assert sdk.models.retrieve("fast").id == "fast"


def test_chat(sdk):
    answer = sdk.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == replies.TEXT
    assert answer.usage.completion_tokens_details.reasoning_tokens == 5


@pytest.mark.parametrize("usage", [False, True])
def test_stream(sdk, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(sdk.chat.completions.create(**ASK, stream=True, **options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == replies.TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([21] if usage else [])


def test_stream_that_moves_on(sdk, gateway):
    gateway.on("openai/a", replies.error_in_stream())
    chunks = list(sdk.chat.completions.create(**ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == replies.TEXT
    assert gateway.attempts == ["openai/a", "openai/b"]


def test_embeddings(sdk):
    answer = sdk.embeddings.create(model="text-embedding-3-small", input="hello", encoding_format="float")
    assert answer.data[0].embedding == [0.25, -0.5, 1e-7]


def test_responses(sdk, gateway):
    assert sdk.responses.create(model="fast", input="hello").output_text == replies.TEXT
    events = list(sdk.responses.create(model="fast", input="hello", stream=True))
    assert [event.type for event in events] == ["response.created", "response.output_text.delta", "response.completed"]
    assert gateway.key("openai/a")["tokens"]["completion"] == 24


def test_moderations(sdk):
    assert sdk.moderations.create(model="fast", input="hello").results[0].flagged is False


def test_back_off_on_our_429_and_success_after_the_hint(sdk, gateway):
    for key in ("openai/a", "openai/b"):
        gateway.on(key, rate_limited(1))
    started = time.monotonic()
    answer = sdk.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == replies.TEXT
    assert 0.8 < time.monotonic() - started < 10
    assert len(gateway.attempts) == 3, "two exhausted, and one that succeeded after the hint"


def test_no_back_off_when_the_quota_is_used_up(sdk, gateway):
    for key in ("openai/a", "openai/b"):
        gateway.on(key, replies.out_of_quota())
    started = time.monotonic()
    with pytest.raises(openai.APIStatusError) as raised:
        sdk.chat.completions.create(**ASK)
    assert raised.value.status_code in (402, 429)
    assert time.monotonic() - started < 2
    assert len(gateway.attempts) == 2


def test_errors_are_of_the_sdks_own_types(sdk, gateway):
    with pytest.raises(openai.NotFoundError) as unknown_model:
        sdk.chat.completions.create(model="slow", messages=ASK["messages"])
    assert unknown_model.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        sdk.files.list()
    gateway.on("openai/a", rate_limited(60))
    gateway.on("openai/b", rate_limited(60))
    with pytest.raises(openai.RateLimitError) as exhausted:
        sdk.with_options(max_retries=0).chat.completions.create(**ASK)
    assert exhausted.value.code == "keys_temporarily_exhausted"
    assert exhausted.value.type == "rate_limit_error"
