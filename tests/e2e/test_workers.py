"""Several workers, a configuration that changes under load, and a VM that traps."""

import asyncio
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import config, replies, sabotage
from harness.client import Client, chat_body
from harness.envoy import WASM, Envoy, write_atomically
from harness.replies import rate_limited

REQUESTS = 50_000
CONNECTIONS = 32


def canned_upstream() -> dict:
    """An Envoy that says the same chat completion to everybody: fast enough not to be what is measured."""
    bootstrap = config.load(config.SHIPPED / "envoy.yaml")
    del bootstrap["static_resources"]["clusters"], bootstrap["stats_config"]
    manager = config.connection_manager(bootstrap)
    del manager["http_filters"][0]
    del manager["http_filters"][0]["typed_config"]["upstream_http_filters"]
    reply = replies.chat()
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": reply.body.decode()}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}}],
        }
    ]
    return bootstrap


async def pipelined(port: int, requests: int, body: bytes) -> int:
    """Sends requests over one connection, some ahead of their answers; returns how many were answered 200."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n%s" % (len(body), body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    answered, ahead, sent, rest = 0, 16, 0, b""
    status_line = re.compile(rb"HTTP/1\.1 (\d+) ")
    statuses: list[bytes] = []
    while len(statuses) < requests:
        while sent < requests and sent < len(statuses) + ahead:
            writer.write(request)
            sent += 1
        data = await reader.read(1 << 18)
        assert data, f"closed after {len(statuses)} answers"
        rest += data
        found = list(status_line.finditer(rest))
        statuses += [match[1] for match in found]
        # A status line may be cut by the end of what was read.
        rest = rest[max(found[-1].end() if found else 0, len(rest) - 16) :]
    answered = statuses.count(b"200")
    writer.close()
    return answered


@pytest.mark.timeout(240)
def test_no_request_of_many_is_lost_to_the_counters(start, tmp_path):
    upstream = Envoy(canned_upstream(), tmp_path / "upstream", concurrency=2)
    try:
        keys = [{"id": "a", "tier": 0}, {"id": "b", "tier": 0}]
        elsewhere = {"openai": config.Endpoint(upstream.port())}
        gateway = start({"openai": keys}, elsewhere=elsewhere, concurrency=4)
        body = b'{"model":"fast","messages":[{"role":"user","content":"hello"}]}'

        async def load() -> int:
            share = REQUESTS // CONNECTIONS
            shares = [share] * (CONNECTIONS - 1) + [REQUESTS - share * (CONNECTIONS - 1)]
            return sum(await asyncio.gather(*(pipelined(gateway.port, count, body) for count in shares)))

        assert asyncio.run(load()) == REQUESTS
        status = gateway.status()
    finally:
        upstream.stop()
    assert sum(key["requests"] for key in status["keys"]) == REQUESTS
    assert sum(key["tokens"]["prompt"] for key in status["keys"]) == REQUESTS * 9
    assert sum(key["tokens"]["completion"] for key in status["keys"]) == REQUESTS * 12
    assert [model["requests"] for model in status["models"]] == [REQUESTS]
    assert [provider["requests"] for provider in status["providers"]] == [REQUESTS]


def with_listeners_from(path):
    """A change of the bootstrap: the gateway's listener moves into a file that Envoy watches."""

    def change(bootstrap: dict):
        listener = config.listener(bootstrap)
        bootstrap["static_resources"]["listeners"].remove(listener)
        # A lasting port: an update must not change the address.
        with socket.create_server(("127.0.0.1", 0)) as free:
            listener["address"] = config.loopback(free.getsockname()[1])
        bootstrap["node"] = {"id": "tests", "cluster": "tests"}
        bootstrap["dynamic_resources"] = {"lds_config": {"path_config_source": {"path": str(path)}}}
        write_listener(path, listener)

    return change


def write_listener(path, listener: dict):
    kind = "type.googleapis.com/envoy.config.listener.v3.Listener"
    write_atomically(path, {"resources": [{"@type": kind, **listener}]})


def changed(listener: dict, document: dict) -> dict:
    listener = config.copy_of(listener)
    config.configure(listener, document)
    return listener


def current_listener(path) -> dict:
    (resource,) = json.loads(path.read_text())["resources"]
    del resource["@type"]
    return resource


@pytest.mark.timeout(120)
def test_reload_under_load_fails_no_request_and_keeps_the_counts(start, tmp_path):
    path = tmp_path / "listeners.json"
    providers = {"openai": ["a", "b"], "groq": ["c"]}
    gateway = start(
        providers,
        concurrency=4,
        change=with_listeners_from(path),
    )
    gateway.on("openai/a", rate_limited(300))
    assert gateway.chat().headers["x-keyward-key"] == "b"
    listener = current_listener(path)
    going = True

    def client() -> list[int]:
        statuses = []
        while going:
            statuses.append(gateway.chat().status)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        for version in range(1, 4):
            document = gateway.setup.document()
            document["providers"][1]["keys"][0]["weight"] = version + 1
            document["models"].append({"name": f"version-{version}", "targets": [{"provider": "openai"}]})
            write_listener(path, changed(listener, document))
            deadline = time.monotonic() + 20
            names: list[str] = []
            while f"version-{version}" not in names:
                assert time.monotonic() < deadline, gateway.envoy.stats("lds")
                names = [model["id"] for model in gateway.client.get("/v1/models").json["data"]]
        going = False
        statuses = [status for future in clients for status in future.result()]
    assert len(statuses) > 20
    assert set(statuses) == {200}
    assert gateway.key("openai/a")["state"] == "resting", "what was learned outlives the configuration"
    assert gateway.key("openai/b")["requests"] == len(statuses) + 1
    assert gateway.attempts.count("openai/a") == 1


def test_a_bad_document_changes_nothing_that_runs(start, tmp_path):
    path = tmp_path / "listeners.json"
    gateway = start({"openai": ["a"]}, change=with_listeners_from(path))
    assert gateway.chat().status == 200
    document = gateway.setup.document()
    document["providers"][0]["kinds"] = "openai"
    write_listener(path, changed(current_listener(path), document))
    gateway.envoy.await_stat("listener_manager.lds.update_rejected", 1)
    assert "providers[0]" in gateway.envoy.log()
    assert gateway.chat().status == 200
    assert gateway.key("openai/a")["requests"] == 2


def test_a_new_secret_behind_the_same_id_starts_ready(start, tmp_path):
    path = tmp_path / "listeners.json"
    gateway = start({"openai": ["a"]}, change=with_listeners_from(path))
    gateway.on("openai/a", replies.key_rejected())
    gateway.chat()
    assert gateway.key("openai/a")["state"] == "refused"
    document = gateway.setup.document()
    document["providers"][0]["keys"][0]["secret"] = {"inline": "sk-renewed"}
    gateway["openai"].keys.append("sk-renewed")
    write_listener(path, changed(current_listener(path), document))
    gateway.envoy.await_stat("listener_manager.lds.update_success", 2)
    deadline = time.monotonic() + 10
    while gateway.key("openai/a")["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert gateway.chat().status == 200
    assert gateway.requests[-1].key == "sk-renewed"


def trailers_enabled(bootstrap: dict):
    config.connection_manager(bootstrap)["http_protocol_options"] = {"enable_trailers": True}


def test_a_trapped_vm_recovers_and_the_state_survives(start, tmp_path):
    module = tmp_path / "trapping.wasm"
    module.write_bytes(sabotage.trapping(WASM.read_bytes(), "proxy_on_request_trailers"))

    def change(bootstrap: dict):
        trailers_enabled(bootstrap)
        for plugin in config.plugins(bootstrap):
            plugin["vm_config"]["code"]["local"]["filename"] = str(module)

    gateway = start({"openai": ["a", "b"]}, change=change)
    gateway.trap_expected = True
    gateway.on("openai/a", rate_limited(300))
    assert gateway.chat().status == 200
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n"
            b"connection: close\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: trap\r\n\r\n"
        )
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 503 ")
    deadline = time.monotonic() + 10
    while (answer := gateway.chat()).status != 200:  # Envoy loads a VM again after a second at the earliest
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    assert answer.headers["x-keyward-key"] == "b"
    assert gateway.attempts == ["openai/a", "openai/b", "openai/b"]
    assert gateway.key("openai/a")["state"] == "resting"
    assert gateway.key("openai/b")["requests"] == 2


def test_state_is_shared_by_the_workers(start):
    gateway = start({"openai": ["a", "b"]}, concurrency=4)
    gateway.on("openai/a", rate_limited(300))
    assert gateway.chat().status == 200
    # A connection stays with its worker; enough of them reach every one.
    for _ in range(24):
        client = Client(gateway.port)
        assert client.post("/v1/chat/completions", chat_body()).headers["x-keyward-key"] == "b"
        client.close()
    assert gateway.attempts.count("openai/a") == 1
