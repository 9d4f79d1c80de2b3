"""When nothing is left: the answer, before sending and found out while trying."""

import time

import pytest
from harness import replies
from harness.gateway import seconds_until
from harness.replies import rate_limited


def test_found_out_while_trying_and_known_before_sending(start):
    gateway = start({"openai": ["a", "b"], "groq": ["c"]})
    for key, seconds in (("openai/a", 50), ("openai/b", 20), ("groq/c", 35)):
        gateway.on(key, rate_limited(seconds))
    trying = gateway.chat()
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]
    known = gateway.chat()
    assert len(gateway.attempts) == 3, "no request is sent with an exhausted key"
    for answer in (trying, known):
        assert answer.status == 429
        assert answer.headers["content-type"].startswith("application/json")
        problem = answer.json["error"]
        assert problem["type"] == "rate_limit_error"
        assert problem["code"] == "keys_temporarily_exhausted"
        assert problem["param"] is None
        assert problem["message"]
        seconds = int(answer.headers["retry-after"])
        milliseconds = int(answer.headers["retry-after-ms"])
        assert 19 <= seconds <= 26, "the earliest of the three, with jitter"
        assert (seconds - 1) * 1000 <= milliseconds <= seconds * 1000
        assert problem["retry_after_ms"] == milliseconds
        assert "t=" in answer.headers["ratelimit"]
        assert not {"x-keyward-state", "x-keyward-retry", "location"} & set(answer.headers)


def test_the_hint_is_at_most_what_the_sdks_obey(start):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", rate_limited(600))
    for _ in range(2):
        answer = gateway.chat()
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert seconds_until(gateway.key("openai/a")["until"]) > 500


def test_out_of_quota_tells_the_sdks_not_to_retry(start):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", replies.out_of_quota())
    for _ in range(2):
        answer = gateway.chat()
        assert answer.status in (402, 429)
        assert answer.headers["x-should-retry"] == "false"
        assert "error" in answer.json
    assert gateway.attempts == ["openai/a"]


def test_the_clients_request_succeeds_after_the_hint(start):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", rate_limited(1))
    refused = gateway.chat()
    assert refused.status == 429
    assert gateway.key("openai/a")["state"] == "resting"
    time.sleep(int(refused.headers["retry-after-ms"]) / 1000)
    assert gateway.chat().status == 200
    assert gateway.key("openai/a")["state"] == "ready"


def test_a_refused_key_is_not_offered_as_a_matter_of_seconds(start):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", replies.key_rejected())
    for _ in range(2):
        answer = gateway.chat()
        assert answer.status >= 400
        assert "sk-" not in answer.body.decode()
    assert gateway.attempts == ["openai/a"]
    assert gateway.key("openai/a")["state"] == "refused"


@pytest.mark.parametrize("status", [503, 529])
def test_an_overloaded_provider_alone_gives_a_hint(start, status):
    gateway = start({"openai": ["a"]}, provider_fields={"openai": {"rest": {"overloaded": "20s"}}})
    gateway.always("openai/a", replies.error(status, "server_error", None))
    answers = [gateway.chat(), gateway.chat()]
    assert answers[1].status in (429, 503)
    assert 1 <= int(answers[1].headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [False, True], ids=["chat", "stream"])
def test_a_provider_that_is_back_soon_is_waited_for_where_there_is_no_other(start, stream):
    gateway = start({"openai": ["a"]})
    gateway.on("openai/a", replies.error(503, "server_error", "server_is_overloaded", headers=[("retry-after", "1")]))
    answer = gateway.chat(stream=stream)
    assert answer.status == 200, answer
    first, second = gateway.requests
    assert 1 <= second.arrived - first.replied < 3
    assert gateway.key("openai/a")["state"] == "ready"


def test_the_providers_own_limits_are_not_passed_on_as_the_clients(start):
    gateway = start({"openai": ["a"]})
    theirs = [("x-ratelimit-limit-requests", "5000"), ("x-ratelimit-remaining-requests", "4999"), ("retry-after", "9")]
    theirs += [("x-request-id", "req_1"), ("openai-processing-ms", "12")]
    gateway.on("openai/a", replies.chat(headers=theirs))
    answer = gateway.chat()
    assert not {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "retry-after"} & set(answer.headers)
    assert answer.headers["x-request-id"]
    assert answer.headers["openai-processing-ms"] == "12"
