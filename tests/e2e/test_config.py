"""The configuration is strict: Envoy does not start with a bad document, and the log says everything that is wrong with it."""

import pytest
from harness import config
from harness.config import Endpoint
from harness.envoy import Envoy, EnvoyRefused
from harness.gateway import Setup


def refusal(document: dict, folder, environment: tuple[str, ...] = ()) -> str:
    bootstrap = config.two_stages(document, {"openai": Endpoint(1)}, list(environment))
    with pytest.raises(EnvoyRefused) as refused:
        Envoy(bootstrap, folder)
    return str(refused.value)


def good() -> dict:
    return Setup({"openai": [{"id": "a", "secret": {"inline": "sk-1"}}]}).document()


def test_all_mistakes_are_told_at_once_with_their_paths(tmp_path):
    document = good()
    document["providers"][0]["kind"] = "opnai"
    document["providers"][0]["keys"][0]["wieght"] = 1
    document["models"][0]["targets"][0]["provider"] = "groq"
    document["anonymous"] = {"consumer": "nobody"}
    log = refusal(document, tmp_path)
    for path in ("providers[0].kind", "providers[0].keys[0]", "models[0].targets[0].provider", "anonymous"):
        assert path in log, path
    for value in ("opnai", "wieght", "groq", "nobody"):
        assert value in log
    assert "known: " in log


def test_a_missing_environment_variable_is_named(tmp_path):
    document = good()
    document["providers"][0]["keys"][0]["secret"] = {"env": "NOT_THERE"}
    log = refusal(document, tmp_path)
    assert "NOT_THERE" in log
    assert "providers[0].keys[0].secret" in log


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("providers", []),
        ("failover", {"max_attempts": 0}),
        ("failover", {"budget": "soon"}),
        ("mode", "sideways"),
        ("admin", {"keys": [{}]}),
        ("unknown", True),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(tmp_path, member, value):
    assert member in refusal(good() | {member: value}, tmp_path)


@pytest.mark.parametrize("as_json", [False, True], ids=["struct", "json"])
def test_the_same_document_as_struct_and_as_json(start, as_json):
    keys = [{"id": "a", "weight": 2, "limits": [{"requests": 500, "per": "minute"}, {"tokens": 200000, "per": "minute"}]}]
    fields = {"failover": {"max_attempts": 3, "per_try_timeout": "10s", "budget": "60s"}}
    rest = {"default": "30s", "max": "1h", "rejected": "24h", "out_of_quota": "1h", "overloaded": "5s"}
    gateway = start({"openai": keys}, as_json=as_json, document_fields=fields, provider_fields={"openai": {"rest": rest}})
    assert gateway.chat().status == 200


def test_json_that_is_none_is_refused(tmp_path):
    bootstrap = config.two_stages(good(), {"openai": Endpoint(1)}, [])
    for plugin in config.plugins(bootstrap):
        plugin["configuration"] = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "providers:"}
    with pytest.raises(EnvoyRefused):
        Envoy(bootstrap, tmp_path)
