"""Which key is taken, and when one comes back."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from harness import replies
from harness.gateway import secret, variable
from harness.replies import rate_limited
from harness.upstream import Gate


def moment(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def flat(*keys: str, **fields) -> list[dict]:
    """Keys of one tier."""
    return [{"id": key, "tier": 0, **fields} for key in keys]


def used(gateway) -> Counter:
    return Counter(name.split("/")[1] for name in gateway.attempts)


@pytest.mark.parametrize("select", ["headroom", "weighted", "round_robin", "least_used"])
def test_every_selection_spreads_over_equal_keys(start, select):
    gateway = start({"openai": flat("a", "b", "c")}, provider_fields={"openai": {"select": select}})
    for _ in range(30):
        assert gateway.chat().status == 200
    counts = used(gateway)
    assert set(counts) == {"a", "b", "c"}
    if select in ("round_robin", "least_used"):
        assert set(counts.values()) == {10}


def test_weights_are_proportions(start):
    keys = [{"id": "a", "tier": 0, "weight": 4}, {"id": "b", "tier": 0, "weight": 1}]
    gateway = start({"openai": keys}, provider_fields={"openai": {"select": "weighted"}})
    for _ in range(100):
        assert gateway.chat().status == 200
    assert 60 <= used(gateway)["a"] <= 95  # 80 expected, standard deviation 4


def test_a_key_near_its_limit_is_spared_before_it_is_exhausted(start):
    gateway = start({"openai": flat("a", "b")})
    near = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "1")]
    near += [("x-ratelimit-reset-requests", "60s")]
    far = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "90")]
    far += [("x-ratelimit-reset-requests", "6s")]
    gateway.always("openai/a", replies.chat(headers=near))
    gateway.always("openai/b", replies.chat(headers=far))
    for _ in range(12):
        assert gateway.chat().status == 200
    assert used(gateway)["a"] <= 2
    assert gateway.key("openai/a")["headroom"] < gateway.key("openai/b")["headroom"]


def test_own_limits_of_a_key_hold(start):
    keys = [{"id": "a", "tier": 0, "limits": [{"requests": 3, "per": "hour"}]}, {"id": "b", "tier": 1}]
    gateway = start({"openai": keys}, concurrency=4)
    with ThreadPoolExecutor(8) as pool:
        statuses = [answer.status for answer in pool.map(lambda _: gateway.chat(), range(20))]
    assert statuses == [200] * 20
    assert used(gateway) == {"a": 3, "b": 17}
    assert gateway.key("openai/a")["state"] == "limited"


def test_keys_of_one_account_rest_together(start):
    keys = [
        {"id": "a", "tier": 0, "quota_group": "account"},
        {"id": "b", "tier": 1, "quota_group": "account"},
        {"id": "c", "tier": 2},
    ]
    gateway = start({"openai": keys})
    gateway.on("openai/a", rate_limited(30))
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/a", "openai/c"], "b shares the bucket that is empty"
    assert gateway.key("openai/b")["state"] == "resting"


def test_a_refused_key_does_not_take_its_account_along(start):
    keys = [{"id": "a", "tier": 0, "quota_group": "account"}, {"id": "b", "tier": 1, "quota_group": "account"}]
    gateway = start({"openai": keys})
    gateway.on("openai/a", replies.key_rejected())
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/a", "openai/b"]


def test_validity_windows_rotate_keys(start):
    keys = [
        {"id": "old", "tier": 0, "valid_until": moment(-60)},
        {"id": "soon", "tier": 1, "valid_from": moment(3600)},
        {"id": "now", "tier": 2, "valid_from": moment(-60), "valid_until": moment(3600)},
    ]
    gateway = start({"openai": keys})
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/now"]
    states = {key["key"]: key["state"] for key in gateway.status()["keys"]}
    assert states == {"openai/old": "expired", "openai/soon": "not_yet_valid", "openai/now": "ready"}


def test_a_provider_in_maintenance_is_passed_over(start):
    window = {"maintenance": [{"from": moment(-60), "until": moment(3600)}]}
    gateway = start({"openai": ["a"], "groq": ["c"]}, provider_fields={"openai": window})
    assert gateway.chat().status == 200
    assert gateway.attempts == ["groq/c"]
    assert gateway.provider("openai")["state"] == "maintenance"


def test_maintenance_everywhere_is_a_503_of_its_own(start):
    window = {"maintenance": [{"from": moment(-60), "until": moment(30)}]}
    gateway = start({"openai": ["a"]}, provider_fields={"openai": window})
    answer = gateway.chat()
    assert (answer.status, answer.code) == (503, "provider_maintenance")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert gateway.requests == []


def test_a_shared_pool_comes_after_the_own_keys(start):
    fields = {
        "key_pools": [{"name": "shared", "keys": [{"id": "s", "secret": {"env": variable("openai", "b")}}]}],
        "response_headers": True,
    }
    # `b` lends its secret to the pool and is itself out of date.
    keys = ["a", {"id": "b", "valid_until": moment(-60)}]
    gateway = start({"openai": keys}, provider_fields={"openai": {"pools": ["shared"]}}, document_fields=fields)
    gateway.on("openai/a", rate_limited(30))
    answer = gateway.chat()
    assert answer.status == 200
    assert answer.headers["x-keyward-key"] == "s"
    assert [seen.key for seen in gateway.requests] == [secret("openai", "a"), secret("openai", "b")]
    assert gateway.key("shared/s")["requests"] == 1


def test_rest_can_be_of_one_model_only(start):
    models = [{"name": name, "targets": [{"provider": "openai"}]} for name in ("large", "small")]
    gateway = start({"openai": ["a"]}, models=models)
    limit = "Rate limit reached for large in organization org-1 on tokens per min (TPM): Limit 1, Used 1, Requested 9."
    gateway.on("openai/a", replies.error(429, "tokens", "rate_limit_exceeded", limit, retry_after=30))
    assert gateway.chat(model="large").status == 429
    assert gateway.chat(model="small").status == 200
    assert gateway.chat(model="large").status == 429
    assert len(gateway.attempts) == 2
    resting = [model for model in gateway.key("openai/a")["models"] if model["state"] == "resting"]
    assert [model["model"] for model in resting] == ["large"]


def test_one_probe_at_a_time_goes_to_a_key_that_came_back(start):
    gateway = start({"openai": ["a"], "groq": ["c"]}, concurrency=4)
    gate = Gate()
    gateway.on("openai/a", rate_limited(1), replies.stream(usage=False, pieces=[gate, *replies.stream_events(False)]))
    assert gateway.chat().status == 200
    deadline = time.monotonic() + 5
    while gateway.key("openai/a")["state"] == "resting":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with ThreadPoolExecutor(9) as pool:
        probe = pool.submit(gateway.chat, stream=True)
        assert gate.reached.wait(5)
        others = list(pool.map(lambda _: gateway.chat(), range(8)))
        probing = gateway.attempts.count("openai/a")
        gate.open()
        assert probe.result().status == 200
    assert [answer.status for answer in others] == [200] * 8
    assert probing == 2, "the first request and one probe"
    assert gateway.chat().headers["x-keyward-provider"] == "openai"
    assert gateway.key("openai/a")["state"] == "ready"


def test_rest_grows_without_hints(start):
    rest = {"rest": {"default": "1s", "max": "60s"}}
    gateway = start({"openai": ["a"]}, provider_fields={"openai": rest})
    gateway.always("openai/a", replies.error(429))
    waits = []
    for _ in range(3):
        answer = gateway.chat()
        assert answer.status == 429
        waits.append(int(answer.headers["retry-after-ms"]) / 1000)
        time.sleep(waits[-1])
    assert len(gateway.attempts) == 3
    assert waits[2] > waits[0]


def test_a_session_stays_on_its_key(start):
    fields = {"sticky": {"header": "x-session-id"}}
    gateway = start({"openai": flat("a", "b", "c", "d")}, document_fields=fields, concurrency=2)
    homes = {}
    for session in ("s1", "s2", "s3", "s4", "s5", "s6"):
        answers = [gateway.chat({"x-session-id": session}) for _ in range(4)]
        keys = {answer.headers["x-keyward-key"] for answer in answers}
        assert len(keys) == 1
        homes[session] = keys.pop()
    assert len(set(homes.values())) > 1
    exhausted = homes["s1"]
    gateway.on(f"openai/{exhausted}", rate_limited(60))
    moved = [gateway.chat({"x-session-id": "s1"}).headers["x-keyward-key"] for _ in range(3)]
    assert exhausted not in moved
    assert len(set(moved)) == 1
    calm = next(session for session, key in homes.items() if key not in (exhausted,))
    assert gateway.chat({"x-session-id": calm}).headers["x-keyward-key"] == homes[calm]
