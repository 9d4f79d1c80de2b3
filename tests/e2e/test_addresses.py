"""Limits and blocks of client addresses; Envoy says whose request it is."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import config, replies
from harness.client import Client
from harness.envoy import OLDER

ACME = {"authorization": "Bearer key-of-acme"}
WRONG = {"authorization": "Bearer wrong"}
CONSUMERS = {"consumers": [{"name": "acme", "keys": [{"inline": "key-of-acme"}]}], "anonymous": "refuse"}
STAGES = ["two", "headers", "body"]


def gateway_of(start, client_address: dict, stage: str = "two", **fields):
    document = CONSUMERS | {"client_address": client_address}
    if stage != "two":
        document["mode"] = stage
    return start({"openai": ["a"]}, stage="two" if stage == "two" else "standalone", document_fields=document, **fields)


def behind_one_proxy(bootstrap: dict):
    """The last entry of `x-forwarded-for` is the proxy's word."""
    config.connection_manager(bootstrap)["xff_num_trusted_hops"] = 1


def of(address: str, headers: dict = ACME) -> dict:
    return {**headers, "x-forwarded-for": address}


def codes(answers) -> list:
    return [200 if answer.status == 200 else answer.code for answer in answers]


def audits(gateway) -> list[dict]:
    lines = [line for line in gateway.envoy.log().splitlines() if '{"audit":' in line]
    return [json.loads(line[line.index('{"audit":') :]) for line in lines]


BLOCK = {"block": {"after": 3, "within": "1m", "for": "10m"}}


@pytest.mark.parametrize("stage", STAGES)
def test_who_keeps_failing_to_authenticate_is_blocked(start, stage):
    gateway = gateway_of(start, BLOCK, stage, change=behind_one_proxy)
    guesses = [gateway.chat(of("192.0.2.1", WRONG)) for _ in range(5)]
    assert codes(guesses) == ["invalid_api_key"] * 3 + ["address_blocked"] * 2
    blocked = gateway.chat(of("192.0.2.1"))
    assert (blocked.status, blocked.code) == (429, "address_blocked"), "the right key does not help"
    assert 590 <= int(blocked.headers["retry-after"]) <= 600
    assert blocked.headers["x-should-retry"] == "false"
    assert gateway.client.get("/v1/models", **of("192.0.2.1")).status == 429
    assert gateway.chat(of("192.0.2.2")).status == 200, "nobody else is concerned"
    (audit,) = audits(gateway)
    assert audit.pop("when") < audit.pop("until")
    assert audit == {
        "audit": "block",
        "who": "keyward",
        "what": "192.0.2.1",
        "from": "192.0.2.1",
        "reason": "authentication",
        "strikes": 3,
    }
    (shown,) = gateway.status()["blocked"]
    assert (shown["address"], shown["reason"]) == ("192.0.2.1", "authentication")
    metrics = gateway.envoy.prometheus()
    assert 'keyward_addresses_blocked{reason="authentication"} 1' in metrics


def test_nor_may_an_admins_key_be_guessed(start):
    gateway = gateway_of(start, BLOCK, change=behind_one_proxy)
    guesses = [gateway.client.get("/keyward/status", **of("192.0.2.1", WRONG)) for _ in range(4)]
    assert codes(guesses) == ["invalid_api_key"] * 3 + ["address_blocked"]


def test_a_block_ends(start):
    block = {"after": 1, "within": "1m", "for": "2s"}
    gateway = gateway_of(start, {"block": block}, change=behind_one_proxy)
    assert gateway.chat(of("192.0.2.1", WRONG)).status == 401
    # It answers 429 until then, and says how long that is.
    answers = []
    while not answers or answers[-1].status == 429:
        answers.append(gateway.chat(of("192.0.2.1")))
    assert answers[-1].status == 200
    assert codes(answers[:-1]) == ["address_blocked"] * (len(answers) - 1)


def test_an_admin_lifts_a_block(start):
    block = BLOCK | {"exempt": ["10.0.0.0/8"]}
    gateway = gateway_of(start, block, change=behind_one_proxy, concurrency=4)
    admin = of("10.0.0.1", {"authorization": f"Bearer {config.ADMIN_KEY}"})
    for address, shown in (("192.0.2.1", "192.0.2.1"), ("2001:db8::7", "2001:db8::/64")):
        assert codes(gateway.chat(of(address, WRONG)) for _ in range(4))[-1] == "address_blocked"
        path = f"/keyward/blocks/{shown}"
        assert gateway.client.request("DELETE", path, headers=of("10.0.0.1")).status == 403
        lifted = gateway.client.request("DELETE", path, headers=admin)
        assert (lifted.status, lifted.json) == (200, {"address": shown, "blocked": False})
        statuses = []
        for _ in range(12):
            client = Client(gateway.port)
            statuses.append(client.chat(of(address)).status)
            client.close()
        assert statuses == [200] * 12, "on every worker"
        assert gateway.client.request("DELETE", path, headers=admin).code == "block_not_found"
    assert [audit["audit"] for audit in audits(gateway)] == ["block", "refusal", "unblock", "refusal"] * 2


def test_what_is_no_address_is_the_proxy_s_own(start):
    gateway = gateway_of(start, BLOCK, change=behind_one_proxy)
    forged = ["garbage", "999.1.1.1", "192.0.2.1/24", "192.0.2.1;x", "::ffff:192.0.2.1.5", "1.2.3.4.5"]
    answers = [gateway.chat(of(text, WRONG)) for text in forged]
    assert codes(answers) == ["invalid_api_key"] * 3 + ["address_blocked"] * 3
    assert [audit["what"] for audit in audits(gateway)] == ["127.0.0.1"]


def test_a_zone_is_no_way_out(start):
    gateway = gateway_of(start, BLOCK, change=behind_one_proxy)
    answers = [gateway.chat(of(f"fe80::1%{zone}", WRONG)) for zone in ("1", "lo", "1", "lo", "1")]
    assert codes(answers) == ["invalid_api_key"] * 3 + ["address_blocked"] * 2
    assert [audit["what"] for audit in audits(gateway)] == ["fe80::/64"]


def test_nobody_escapes_by_another_address_that_is_not_believed(start):
    """Without trusted proxies the header means nothing; behind one, only its own word counts."""
    direct = gateway_of(start, BLOCK)
    forged = [direct.chat(of(f"192.0.2.{n}", WRONG)) for n in range(5)]
    assert codes(forged) == ["invalid_api_key"] * 3 + ["address_blocked"] * 2
    proxied = gateway_of(start, BLOCK, change=behind_one_proxy)
    forged = [proxied.chat(of(f"198.51.100.{n}, 192.0.2.1", WRONG)) for n in range(5)]
    assert codes(forged) == ["invalid_api_key"] * 3 + ["address_blocked"] * 2
    assert proxied.chat(of("192.0.2.1, 198.51.100.9")).status == 200, "nor does anybody block another"
    assert [audit["what"] for audit in audits(proxied)] == ["192.0.2.1"]


def test_an_ipv6_customer_is_one(start):
    gateway = gateway_of(start, BLOCK, change=behind_one_proxy)
    answers = [gateway.chat(of(f"2001:db8::{n}", WRONG)) for n in range(4)]
    assert codes(answers) == ["invalid_api_key"] * 3 + ["address_blocked"]
    assert gateway.chat(of("2001:db8:0:1::1")).status == 200
    assert audits(gateway)[0]["what"] == "2001:db8::/64"


@pytest.mark.parametrize("stage", STAGES)
def test_each_address_has_its_own_limit(start, stage):
    limits = {"limits": [{"requests": 2, "per": "day"}], "exempt": ["10.0.0.0/8"]}
    gateway = gateway_of(start, limits, stage, change=behind_one_proxy)
    assert codes([gateway.chat(of("192.0.2.1")) for _ in range(3)]) == [200, 200, "quota_exceeded"]
    assert codes([gateway.chat(of("192.0.2.2")) for _ in range(3)]) == [200, 200, "quota_exceeded"]
    assert codes([gateway.chat(of("10.1.2.3")) for _ in range(5)]) == [200] * 5
    refused = gateway.chat(of("192.0.2.1"))
    assert '"192.0.2.1"' in refused.json["error"]["message"]
    assert len(gateway.requests) == 9


def test_tokens_of_an_address_are_made_right_by_what_was_used(start):
    """Reserved are 256 and the prompt; 21 were used."""
    gateway = gateway_of(start, {"limits": [{"tokens": 300, "per": "day"}]}, change=behind_one_proxy)
    for _ in range(2):
        assert gateway.chat(of("192.0.2.1")).status == 200
    assert gateway.chat(of("192.0.2.1"), max_tokens=300).code in ("rate_limit_exceeded", "quota_exceeded")
    assert gateway.chat(of("192.0.2.2")).status == 200


def test_a_request_that_moves_on_is_one_request_of_its_address(start):
    document = CONSUMERS | {"client_address": {"limits": [{"requests": 2, "per": "day"}, {"tokens": 10_000, "per": "day"}]}}
    gateway = start({"openai": ["a"], "groq": ["b"]}, document_fields=document)
    gateway.on("openai/a", replies.rate_limited(60))
    answers = [gateway.chat(ACME) for _ in range(3)]
    assert codes(answers) == [200, 200, "quota_exceeded"]
    assert gateway.attempts == ["openai/a", "groq/b", "groq/b"]


def test_exactly_as_many_as_the_limit_on_all_workers(start):
    limits = {"limits": [{"requests": 40, "per": "day"}]}
    gateway = gateway_of(start, limits, concurrency=4, change=behind_one_proxy)
    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda _: gateway.chat(of("192.0.2.1")).status, range(120)))
    assert (statuses.count(200), statuses.count(429)) == (40, 80)


@pytest.mark.parametrize("version", OLDER)
def test_older_envoys(start, version):
    gateway = gateway_of(start, BLOCK, change=behind_one_proxy, version=version)
    answers = [gateway.chat(of("192.0.2.1", WRONG)) for _ in range(4)]
    assert codes(answers) == ["invalid_api_key"] * 3 + ["address_blocked"]
    assert gateway.chat(of("192.0.2.2")).status == 200


def test_a_hundred_thousand_addresses(start):
    """As many addresses as fast as they come: the one that does not stop is blocked, no other, and Envoy does not grow."""
    block = {"limits": [{"requests": 1_000, "per": "minute"}], "block": {"after": 2_000, "within": "1h", "for": "1h"}}
    gateway = gateway_of(start, block, concurrency=2, change=behind_one_proxy)

    def request(address: str) -> bytes:
        lines = ["GET /v1/models HTTP/1.1", "host: gateway", "x-api-key: wrong", f"x-forwarded-for: {address}", "", ""]
        return "\r\n".join(lines).encode()

    def flood(worker: int) -> dict[int, int]:
        """25,000 addresses one after the other, and after every tenth the same one."""
        statuses = {401: 0, 429: 0}
        with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection, connection.makefile("rb") as stream:
            for n in range(worker * 25_000, (worker + 1) * 25_000):
                addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", *(["192.0.2.1"] if n % 10 == 0 else [])]
                for address in addresses:
                    connection.sendall(request(address))
                    statuses[_status(stream)] += 1
        return statuses

    memory = gateway.envoy.stats("^server.memory_allocated$")["server.memory_allocated"]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(flood, range(4)))
    grown = gateway.envoy.stats("^server.memory_allocated$")["server.memory_allocated"] - memory
    refused = sum(statuses[429] for statuses in results)
    assert sum(statuses[401] for statuses in results) + refused == 110_000
    # 2,000 strikes by the key or by its limit, then blocked.
    assert 8_000 <= refused <= 9_000, "of the 10,000 of the one, and of nobody else's"
    assert [audit["what"] for audit in audits(gateway)] == ["192.0.2.1"]
    assert gateway.chat(of("192.0.2.1")).code == "address_blocked"
    assert gateway.chat(of("10.0.0.1")).status == 200
    assert grown < 24 << 20, grown


def _status(stream) -> int:
    """Of the next answer, whose body is skipped."""
    status = int(stream.readline().split()[1])
    length = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    stream.read(length)
    return status
