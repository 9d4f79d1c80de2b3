"""The main job against an independent mock: no client sees an exhausted key while another can answer."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.client import Answer
from harness.gateway import Gateway
from harness.mock import Llmock

TWO_KEYS = {"openai": [{"id": "a", "tier": 0}, {"id": "b", "tier": 0}]}


@pytest.fixture
def llmock(tmp_path):
    mock = Llmock(tmp_path / "llmock.log", requests_per_minute=3)
    yield mock
    mock.stop()


def gateway_to(llmock: Llmock, gateway: Gateway) -> Gateway:
    for key in ("openai/a", "openai/b"):
        gateway.always(key, llmock.answer)
    return gateway


def calls_on_exhausted_keys(gateway: Gateway, grace: float) -> list[tuple[str, float]]:
    """Requests that came with a key whose 429 was out for longer than `grace` and whose hint was not over."""
    wrong = []
    for key in gateway.secrets.values():
        seen = [request for request in gateway.requests if request.key == key]
        for refused in (request for request in seen if request.reply and request.reply.status == 429):
            hint = float(dict(refused.reply.headers)["retry-after"])
            known, over = refused.replied + grace, refused.replied + hint - 0.5
            wrong += [(key, request.arrived) for request in seen if known < request.arrived < over]
    return wrong


def hint(answer: Answer) -> int:
    """The `Retry-After` of a 429, checked as the official SDKs want it."""
    assert answer.status == 429, answer
    seconds = int(answer.headers["retry-after"])
    assert 1 <= seconds <= 60
    assert 0 < int(answer.headers["retry-after-ms"]) <= seconds * 1000
    assert answer.code == "keys_temporarily_exhausted"
    return seconds


@pytest.mark.timeout(120)
def test_thirteen_requests_on_two_keys_of_three_a_minute(start, llmock):
    gateway = gateway_to(llmock, start(TWO_KEYS))
    answers = [gateway.chat() for _ in range(9)]
    assert [answer.status for answer in answers] == [200] * 6 + [429] * 3
    time.sleep(hint(answers[-1]))  # as a client does
    answers += [gateway.chat() for _ in range(4)]
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 8, statuses
    assert all(hint(answer) for answer in answers if answer.status == 429)
    assert calls_on_exhausted_keys(gateway, grace=0) == []


@pytest.mark.timeout(120)
def test_sixteen_clients_on_four_workers(start, llmock):
    gateway = gateway_to(llmock, start(TWO_KEYS, concurrency=4))
    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda _: gateway.chat(), range(16)))
        assert sorted(answer.status for answer in first) == [200] * 6 + [429] * 10
        sent = len(gateway.requests)
        again = list(pool.map(lambda _: gateway.chat(), range(16)))
        assert len(gateway.requests) == sent, "both keys are known to be exhausted"
        time.sleep(max(hint(answer) for answer in again))
        third = list(pool.map(lambda _: gateway.chat(), range(16)))
    assert sorted(answer.status for answer in third) == [200] * 2 + [429] * 14
    assert all(hint(answer) for answer in first + third if answer.status == 429)
    # What was on its way when the 429 came back could not know of it.
    assert calls_on_exhausted_keys(gateway, grace=0.25) == []
