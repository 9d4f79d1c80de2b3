"""Envoy configurations for tests: the shipped ones with addresses, document and clusters replaced.

What a test runs is therefore what an operator gets: routes, retries, redirects and filter flags are those of `envoy/`.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from .envoy import CURRENT, REPOSITORY, WASM

SHIPPED = REPOSITORY / "envoy"
ADMIN_KEY = "admin-key-of-the-tests"
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


@dataclass(frozen=True)
class Endpoint:
    """Where a provider's cluster connects to."""

    port: int
    http2: bool = False
    host: str = "127.0.0.1"


def load(path, secrets_folder: str = "/etc/envoy/secrets") -> dict:
    """A shipped configuration that finds the built filter and listens on free loopback ports."""
    text = path.read_text().replace("/etc/envoy/keyward.wasm", str(WASM))
    text = text.replace("/etc/envoy/secrets", secrets_folder)
    bootstrap = copy_of(yaml.safe_load(text))
    bootstrap["admin"]["address"] = loopback()
    listener(bootstrap)["address"] = loopback()
    return bootstrap


def copy_of(value):
    """Without the sharing that YAML anchors leave behind."""
    return json.loads(json.dumps(value))


def loopback(port: int = 0) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(bootstrap: dict, name: str = "gateway") -> dict:
    return next(item for item in bootstrap["static_resources"]["listeners"] if item["name"] == name)


def connection_manager(bootstrap: dict) -> dict:
    return listener(bootstrap)["filter_chains"][0]["filters"][0]["typed_config"]


def routes(bootstrap: dict) -> list[dict]:
    return connection_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]


def plugins(value) -> Iterator[dict]:
    """Every `PluginConfig` of our filter, in order."""
    if isinstance(value, dict):
        if str(value.get("@type", "")).endswith("filters.http.wasm.v3.Wasm"):
            yield value["config"]
        else:
            for member in value.values():
                yield from plugins(member)
    elif isinstance(value, list):
        for member in value:
            yield from plugins(member)


def configure(bootstrap: dict, document: dict, as_json: bool = False):
    """Gives the document to every stage: as `Struct`, or as JSON in a `StringValue` as Istio does."""
    if as_json:
        value = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(document)}
    else:
        value = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": document}
    for plugin in plugins(bootstrap):
        plugin["configuration"] = copy.deepcopy(value)


def two_stages(document: dict, endpoints: dict[str, Endpoint], environment: list[str], **options) -> dict:
    return _two_stages(load(SHIPPED / "envoy.yaml"), document, endpoints, environment, **options)


def sign(bootstrap: dict, provider: str):
    """Has Envoy sign what goes to the provider, as `bedrock.yaml` does."""
    shipped = load(SHIPPED / "bedrock.yaml")["static_resources"]["clusters"]
    options = next(cluster for cluster in shipped if cluster["name"] == "bedrock")["typed_extension_protocol_options"]
    (filters,) = [value["http_filters"] for value in options.values()]
    router = connection_manager(bootstrap)["http_filters"][-1]["typed_config"]
    filters[0] = router["upstream_http_filters"][0]
    cluster = next(cluster for cluster in bootstrap["static_resources"]["clusters"] if cluster["name"] == provider)
    cluster["typed_extension_protocol_options"] = options


def secrets_by_sds(document: dict, endpoints: dict[str, Endpoint], folder: str, **options) -> dict:
    return _two_stages(load(SHIPPED / "secrets-sds.yaml", folder), document, endpoints, [], **options)


def limited_by_service(service_port: int):
    """Two stages with the shipped `ratelimit` filter between them, asking a service on that port."""

    def build(document: dict, endpoints: dict[str, Endpoint], environment: list[str], **options) -> dict:
        bootstrap = load(SHIPPED / "ratelimit.yaml")
        clusters = bootstrap["static_resources"]["clusters"]
        (service,) = (cluster for cluster in clusters if cluster["name"] == "ratelimit")
        target = service["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        target["address"] = loopback(service_port)
        bootstrap = _two_stages(bootstrap, document, endpoints, environment, **options)
        bootstrap["static_resources"]["clusters"].append(service)
        return bootstrap

    return build


def ratelimit_filter(bootstrap: dict) -> dict:
    filters = connection_manager(bootstrap)["http_filters"]
    return next(item["typed_config"] for item in filters if item["name"] == "envoy.filters.http.ratelimit")


def _two_stages(
    bootstrap: dict,
    document: dict,
    endpoints: dict[str, Endpoint],
    environment: list[str],
    as_json: bool = False,
    version: str = CURRENT,
) -> dict:
    configure(bootstrap, document, as_json)
    for plugin in plugins(bootstrap):
        plugin["vm_config"]["environment_variables"] = {"host_env_keys": environment}
    if version < "1.38":
        listener(bootstrap)["per_connection_buffer_limit_bytes"] = routes(bootstrap)[0]["request_body_buffer_limit"]
    clusters = {cluster["name"]: cluster for cluster in bootstrap["static_resources"]["clusters"]}
    made = [clusters["keyward-replan"]]
    for provider, endpoint in endpoints.items():
        aggregate = copy_of(clusters["openai"]) | {"name": provider}
        aggregate["cluster_type"]["typed_config"]["clusters"][0] = f"{provider}-endpoints"
        made += [aggregate, _leaf(copy_of(clusters["openai-endpoints"]), f"{provider}-endpoints", provider, endpoint)]
    bootstrap["static_resources"]["clusters"] = made
    return bootstrap


def _leaf(cluster: dict, name: str, provider: str, endpoint: Endpoint) -> dict:
    """Of a shipped cluster, what is left when it connects to a scripted upstream without TLS."""
    del cluster["transport_socket"]
    del cluster["typed_extension_protocol_options"]
    if endpoint.http2:
        cluster["typed_extension_protocol_options"] = HTTP2
    address = {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}
    target = {"endpoint": {"address": address}, "metadata": {"filter_metadata": {"keyward": {"provider": provider}}}}
    load_assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [target]}]}
    return cluster | {"name": name, "load_assignment": load_assignment}


def standalone(
    document: dict,
    endpoints: dict[str, Endpoint],
    environment: list[str],
    as_json: bool = True,
    version: str = CURRENT,
) -> dict:
    """One stage; `mode: body` in the document also gives it the flag and the routing that it needs."""
    bootstrap = load(SHIPPED / "standalone.yaml")
    configure(bootstrap, document, as_json)
    (plugin,) = plugins(bootstrap)
    plugin["vm_config"]["environment_variables"] = {"host_env_keys": environment}
    template = routes(bootstrap)[-1]
    made = []
    if document.get("mode") == "body":
        plugin["allow_on_headers_stop_iteration"] = True
        route = copy_of(template)
        del route["metadata"]
        route["route"] = {"cluster_header": "x-keyward-cluster", "timeout": "0s"}
        made.append(route)
    else:
        for provider in endpoints:
            route = copy_of(template)
            route["match"] = {"prefix": "/", "headers": [{"name": "x-provider", "string_match": {"exact": provider}}]}
            route["metadata"]["filter_metadata"]["keyward"]["provider"] = provider
            route["route"]["cluster"] = provider
            made.append(route)
        made.append({**copy_of(made[0]), "match": {"prefix": "/"}})
    connection_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"] = made
    shipped = {cluster["name"]: cluster for cluster in bootstrap["static_resources"]["clusters"]}
    bootstrap["static_resources"]["clusters"] = [
        _leaf(copy_of(shipped["openai"]), provider, provider, endpoint) for provider, endpoint in endpoints.items()
    ]
    return bootstrap
