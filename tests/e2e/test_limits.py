"""Limits of consumers, teams and models on real workers: what they let through, what they give back, what they say."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from harness import config, replies, sabotage
from harness.client import Client, chat_body
from harness.envoy import WASM, EnvoyRefused
from harness.replies import rate_limited
from harness.upstream import Fault, Gate
from test_consumers import STAGES, TWO, bearer, consumer, gateway_of
from test_workers import changed, current_listener, trailers_enabled, with_listeners_from, write_listener

SPENT = 21
"""Tokens of every answer of the scripted providers."""


def left(answer, what: str = "tokens") -> int:
    return int(answer.headers[f"x-ratelimit-remaining-{what}"])


def at_once(gateway, clients: int, each: int, headers=None, **fields) -> list:
    """The answers of so many clients that all start at the same moment, each on connections of its own."""
    barrier = threading.Barrier(clients)

    def client() -> list:
        barrier.wait()
        answers = []
        for _ in range(each):
            connection = Client(gateway.port)
            answers.append(connection.chat(headers, **fields))
            connection.close()
        return answers

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(client) for _ in range(clients)]
        return [answer for future in futures for answer in future.result()]


def eventually(probe, timeout: float = 10):
    """The first true result; what the end of a stream does comes a moment after the client has its last byte."""
    deadline = time.monotonic() + timeout
    while not (result := probe()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stage", STAGES)
def test_of_64_clients_on_4_workers_exactly_as_many_pass_as_the_limit_says(start, stage):
    limits = [{"requests": 50, "per": "week"}, {"requests": 900, "per": "month"}, {"tokens": 9_000_000, "per": "day"}]
    gateway = gateway_of(start, [consumer("acme", limits=limits), consumer("other")], stage, concurrency=4)
    answers = at_once(gateway, 64, 2, bearer("acme"))
    passed = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(passed) == 50
    assert {(answer.status, answer.code) for answer in refused} == {(429, "quota_exceeded")}
    assert {answer.headers["x-should-retry"] for answer in refused} == {"false"}
    assert min(left(answer, "requests") for answer in passed) == 0
    assert len(gateway.requests) == 50
    # One consumer is stopped by its own limit, another goes on.
    assert gateway.chat(bearer("other")).status == 200


@pytest.mark.timeout(120)
def test_tokens_are_bounded_by_reservation_and_what_is_not_used_is_given_back(start):
    limits = [{"tokens": 2_000, "per": "day"}]
    gateway = gateway_of(start, [consumer("acme", limits=limits)], concurrency=4)
    # Each reserves about 75 and uses 21.
    answers = at_once(gateway, 64, 3, bearer("acme"), max_tokens=60)
    passed = len([answer for answer in answers if answer.status == 200])
    assert passed * SPENT <= 2_000
    assert passed >= 2_000 // 75, "no more than the reservations of those under way is kept back"
    # All has been settled: what is left is what was not used, less what the last request reserves.
    answer = eventually(lambda: one if (one := gateway.chat(bearer("acme"), max_tokens=1)).status == 200 else None)
    reserved = 2_000 - passed * SPENT - left(answer)
    assert 0 < reserved < 40


@pytest.mark.parametrize("stage", ["two", "body"])
def test_what_failed_or_broke_off_is_settled_once(start, stage):
    gateway = gateway_of(start, [consumer("acme", limits=[{"tokens": 100_000, "per": "day"}])], stage)

    def used() -> int:
        """What is counted when everything before is settled; a probe uses 21 itself."""

        def probe() -> int:
            return 100_000 - left(gateway.chat(bearer("acme"), max_tokens=1))

        def settled() -> int:
            first, second = probe(), probe()
            return second if second - first == SPENT else 0

        return eventually(settled)

    before = used()
    assert 2 * SPENT <= used() - before < 10 * SPENT, "what each used, not what it reserved"
    # A failure without an answer is given back.
    before = used()
    for key in ("openai/a", "groq/c"):
        gateway.on(key, *[replies.error(500, code="server_error")] * 2)
    assert gateway.chat(bearer("acme"), max_tokens=5_000).status >= 500
    for upstream in gateway.upstreams.values():
        upstream._scripts.clear()
    assert used() - before < 1_000
    # A stream that its client leaves before any usage was told keeps its reservation.
    before = used()
    gate = Gate()
    pieces = [*replies.stream_events()[:2], gate, *replies.stream_events()[2:]]
    gateway.on("openai/a", replies.stream(pieces=pieces))
    body = chat_body(stream=True, max_tokens=7_000)
    with gateway.client.streaming("POST", "/v1/chat/completions", body, bearer("acme")) as (answer, received):
        assert answer.status == 200
        next(received)
    assert 7_000 < used() - before < 8_000
    gate.open()


def test_a_request_that_moves_on_is_charged_once(start):
    limits = [{"requests": 100, "per": "day"}, {"tokens": 100_000, "per": "day"}, {"concurrency": 2}]
    gateway = gateway_of(start, [consumer("acme", limits=limits)])
    for _ in range(3):
        gateway.on("openai/a", rate_limited(0))
        answer = gateway.chat(bearer("acme"), max_tokens=1_000)
        assert answer.status == 200
    assert len(gateway["groq"].requests) >= 1
    answer = eventually(lambda: one if left(one := gateway.chat(bearer("acme"), max_tokens=1)) > 99_000 else None)
    asked = 100 - left(answer, "requests")
    assert 4 <= asked <= 10
    assert 100_000 - left(answer) < asked * SPENT + 40
    assert '"concurrency";r=1' in answer.headers["ratelimit"]


@pytest.mark.parametrize("stage", ["two", "body"])
def test_places_are_free_when_streams_end_however_they_end(start, stage):
    gateway = gateway_of(start, [consumer("acme", limits=[{"concurrency": 2}])], stage, concurrency=4)

    def streaming(gate, *rest):
        gateway.on("openai/a", replies.stream(pieces=[*replies.stream_events()[:2], gate, *rest]))
        client = Client(gateway.port)
        context = client.streaming("POST", "/v1/chat/completions", chat_body(stream=True), bearer("acme"))
        answer, pieces = context.__enter__()
        assert answer.status == 200, answer.headers
        next(pieces)
        return client, context, pieces

    def refused() -> bool:
        answer = Client(gateway.port).chat(bearer("acme"))
        if answer.status == 429:
            assert answer.code == "rate_limit_exceeded"
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["ratelimit-policy"] == '"concurrency";q=2;qu="concurrent-requests"'
        return answer.status == 429

    for ending in ("whole", "left", "reset"):
        gates = [Gate(), Gate()]
        rest = [Fault.RESET] if ending == "reset" else replies.stream_events()[2:]
        open_streams = [streaming(gate, *rest) for gate in gates]
        assert refused()
        client, context, pieces = open_streams[0]
        if ending == "left":
            client.close()
        gates[0].open()
        if ending != "left":
            list(pieces)
        eventually(lambda: not refused())
        gates[1].open()
        for client, context, _ in open_streams:
            context.__exit__(None, None, None)
            client.close()
        eventually(lambda: all(not refused() for _ in range(2)))


@pytest.mark.timeout(120)
def test_what_a_trapped_vm_held_is_free_after_the_lease(start, tmp_path):
    module = tmp_path / "trapping.wasm"
    module.write_bytes(sabotage.trapping(WASM.read_bytes(), "proxy_on_request_trailers"))

    def change(bootstrap: dict):
        trailers_enabled(bootstrap)
        for plugin in config.plugins(bootstrap):
            plugin["vm_config"]["code"]["local"]["filename"] = str(module)

    gateway = gateway_of(start, [consumer("acme", limits=[{"concurrency": 1}])], change=change)
    gateway.trap_expected = True
    gate = Gate()
    gateway.on("openai/a", replies.stream(pieces=[*replies.stream_events()[:2], gate]))
    with gateway.client.streaming("POST", "/v1/chat/completions", chat_body(stream=True), bearer("acme")) as (answer, pieces):
        assert answer.status == 200
        next(pieces)
        # The place is held for longer than a lease lasts: the VM says so again and again.
        held_until = time.monotonic() + 20
        while time.monotonic() < held_until:
            assert Client(gateway.port).chat(bearer("acme")).status == 429
            time.sleep(1)
        trap(gateway)
        trapped = time.monotonic()
    gate.open()
    eventually(lambda: Client(gateway.port).chat(bearer("acme")).status == 200, 60)
    assert time.monotonic() - trapped < 30


def trap(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n"
            b"authorization: Bearer key-of-acme\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: trap\r\n\r\n"
        )
        connection.makefile("rb").read()


def test_teams_and_models_share_a_limit(start):
    document = {"teams": [{"name": "research", "limits": [{"requests": 3, "per": "day"}]}]}
    consumers = [consumer("a", team="research"), consumer("b", team="research"), consumer("c")]
    gateway = gateway_of(start, consumers, document=document)
    assert [gateway.chat(bearer(name)).status for name in "abab"] == [200, 200, 200, 429]
    message = gateway.chat(bearer("a")).json["error"]["message"]
    assert message.startswith('The budget of team "research" (3 requests per day) is used up; it is back in ')
    assert gateway.chat(bearer("c")).status == 200

    models = [{"name": "fast", "targets": [{"provider": "openai"}], "limits": [{"requests": 2, "per": "hour"}]}]
    gateway = start({"openai": ["a"]}, models=models)
    assert [gateway.chat().status for _ in range(3)] == [200, 200, 429]
    assert "x-ratelimit-limit-requests" not in gateway.chat().headers or gateway.chat().status == 429


def test_openai_s_client_waits_as_told_and_succeeds(start):
    limits = [{"requests": 2, "per": "second", "algorithm": "token_bucket"}]
    gateway = gateway_of(start, [consumer("acme", limits=limits), consumer("poor", limits=[{"requests": 1, "per": "month"}])])

    def client(name: str) -> openai.OpenAI:
        return openai.OpenAI(api_key=f"key-of-{name}", base_url=f"http://127.0.0.1:{gateway.port}/v1")

    acme = client("acme")
    begun = time.monotonic()
    for _ in range(5):
        acme.chat.completions.create(**chat_body())
    assert 1.0 < time.monotonic() - begun < 15
    poor = client("poor")
    poor.chat.completions.create(**chat_body())
    begun = time.monotonic()
    with pytest.raises(openai.RateLimitError) as refusal:
        poor.chat.completions.create(**chat_body())
    assert refusal.value.code == "quota_exceeded"
    assert time.monotonic() - begun < 0.4, "no retry"


@pytest.mark.timeout(60)
def test_a_reload_keeps_the_counts(start, tmp_path):
    path = tmp_path / "listeners.json"
    consumers = [consumer("acme", limits=[{"requests": 4, "per": "day"}, {"concurrency": 9}])]
    gateway = gateway_of(start, consumers, change=with_listeners_from(path))

    def chat():
        client = Client(gateway.port)
        answer = client.chat(bearer("acme"))
        client.close()
        return answer

    def models() -> str:
        client = Client(gateway.port)
        answer = client.get("/v1/models", **bearer("acme"))
        client.close()
        return str(answer.body)

    assert [chat().status for _ in range(3)] == [200] * 3
    document = gateway.setup.document()
    document["consumers"][0]["limits"] = [{"tokens": 90_000, "per": "day"}, {"requests": 5, "per": "day"}]
    document["models"].append({"name": "next", "targets": [{"provider": "openai"}]})
    write_listener(path, changed(current_listener(path), document))
    eventually(lambda: "next" in models())
    answers = [chat() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [left(answer, "requests") for answer in answers] == [1, 0, 0]


def test_a_route_has_limits_of_each_consumer_by_its_metadata(start):
    def routes(bootstrap: dict):
        template = config.routes(bootstrap)[0]
        keyward = {"limits": [{"requests": 2, "per": "day"}, {"concurrency": 3}]}
        narrow = {
            **config.copy_of(template),
            "name": "trial",
            "match": {"prefix": "/", "headers": [{"name": "x-route", "string_match": {"exact": "trial"}}]},
            "metadata": {"filter_metadata": {"keyward": keyward}},
        }
        config.connection_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"] = [narrow, template]

    gateway = gateway_of(start, [consumer("acme"), consumer("beta")], change=routes)
    for name in ("acme", "beta"):
        answers = [gateway.chat({**bearer(name), "x-route": "trial"}) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[0].headers["ratelimit-policy"].startswith('"route-requests-day";q=2;w=86400, "route-concurrency";q=3')
        assert answers[2].json["error"]["message"].startswith('The budget of route "trial" (2 requests per day) is used up')
        answer = gateway.chat(bearer(name))
        assert answer.status == 200
        assert "ratelimit" not in answer.headers


def test_a_budget_in_dollars_ends(start):
    prices = [{"provider": name, "model": "*", "input": 1000, "output": 1000} for name in TWO]
    consumers = [consumer("acme", limits=[{"cost": 0.25, "per": "month"}]), consumer("free")]
    gateway = gateway_of(start, consumers, document={"prices": prices})
    statuses = []
    while 429 not in statuses:
        # Reserves 17 + 21, uses 21: each costs 21 thousandths.
        statuses.append(gateway.chat(bearer("acme"), max_tokens=21).status)
        eventually(lambda: "keyward_cost_nanodollars" in gateway.envoy.prometheus())
    assert 9 <= statuses.count(200) <= 11
    answer = gateway.chat(bearer("acme"), max_tokens=21)
    assert (answer.status, answer.code) == (429, "quota_exceeded")
    assert 'The budget of consumer "acme" (0.25 USD per month)' in answer.json["error"]["message"]
    metrics = gateway.envoy.prometheus()
    assert 'keyward_limited{by="consumer",limit="microdollars-month"} 2' in metrics, metrics
    assert gateway.chat(bearer("free")).status == 200


def test_a_limit_on_cost_of_a_model_without_a_price_is_refused_at_load_time(start):
    with pytest.raises(
        EnvoyRefused, match=r"consumers\[0\].limits: a limit on cost, but no price is known for fast \(openai: fast\), "
    ):
        gateway_of(start, [consumer("acme", limits=[{"cost": 5, "per": "day"}])])
