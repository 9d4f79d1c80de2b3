"""A smoke run of the main job on older Envoys; the rest of this folder runs on the current one."""

import subprocess

import pytest
from harness import replies
from harness.envoy import OLDER, binary, validate
from harness.replies import rate_limited

pytestmark = pytest.mark.parametrize("version", OLDER)
TWO = {"openai": ["a", "b"], "groq": ["c"]}


def test_it_is_that_version(version):
    shown = subprocess.run([binary(version), "--version"], capture_output=True, text=True, check=True).stdout
    assert f"/{version}/" in shown


def test_keys_then_providers_then_a_hint(start, version):
    gateway = start(TWO, version=version)
    for key in ("openai/a", "openai/b"):
        gateway.on(key, rate_limited(60))
    answer = gateway.chat(stream=True)
    assert answer.body == replies.HIDDEN_USAGE
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]
    gateway.on("groq/c", rate_limited(20))
    answers = [gateway.chat() for _ in range(2)]
    assert [answer.status for answer in answers] == [429, 429]
    assert all(15 <= int(answer.headers["retry-after"]) <= 26 for answer in answers)
    assert len(gateway.attempts) == 4


def test_an_error_inside_a_stream_and_a_reset_move_on(start, version):
    gateway = start(TWO, version=version)
    gateway.on("openai/a", replies.error_in_stream())
    gateway.on("openai/b", replies.reset_before_first_event())
    answer = gateway.chat(stream=True)
    assert answer.body == replies.HIDDEN_USAGE
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]


def test_a_refusing_provider_is_left(start, version):
    gateway = start(TWO, version=version, refused=("openai",))
    assert gateway.chat().status == 200
    assert gateway.attempts == ["groq/c"]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_ten_megabytes_still_move_on(start, version, http2):
    gateway = start(TWO, version=version, http2=http2)
    for key in ("openai/a", "openai/b"):
        gateway.on(key, rate_limited(60))
    assert gateway.chat(messages=[{"role": "user", "content": "x" * 10_000_000}]).status == 200
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]


@pytest.mark.parametrize("mode", ["headers", "body"])
def test_standalone(start, version, mode):
    gateway = start(TWO, version=version, stage="standalone", document_fields={"mode": mode})
    gateway.on("openai/a", rate_limited(60))
    assert [gateway.chat().status for _ in range(2)] == [429, 200]
    assert gateway.attempts == ["openai/a", "openai/b"]


@pytest.mark.parametrize("name", ["envoy.yaml", "standalone.yaml", "secrets-sds.yaml", "demo/envoy.yaml"])
def test_the_shipped_configurations_are_valid(shipped, version, name):
    result = validate(shipped(name), shipped.environment, version)
    assert result.returncode == 0, result.stderr
