"""A real Envoy process: started from a configuration, ready when the constructor returns, stopped by its own id."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
WASM = Path(os.environ.get("KEYWARD_WASM", REPOSITORY / "target/wasm32-wasip1/release/keyward.wasm"))
CURRENT = "1.40.0"
OLDER = ["1.36.3", "1.38.2"]
# A listener that is replaced tells every connection `connection: close`, and leaves time for it to be heard before
# the connection is closed; without, a client may write into a connection that is being reset.
DRAIN = ("--drain-time-s", "5", "--drain-strategy", "immediate")


def binary(version: str = CURRENT) -> Path:
    environment = ".venv" if version == CURRENT else f".venv-envoy-{version}"
    path = REPOSITORY / environment / "bin" / "envoy"
    assert path.exists(), f"{path} is missing: run `make test-e2e`, which installs it"
    return path


class Envoy:
    def __init__(
        self,
        bootstrap: dict,
        folder: Path,
        environment: dict[str, str] | None = None,
        concurrency: int = 1,
        version: str = CURRENT,
        arguments: tuple[str, ...] = DRAIN,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log_path = folder / "envoy.log"
        address_path = folder / "admin-address"
        config_path = folder / "envoy.yaml"
        config_path.write_text(yaml.safe_dump(bootstrap, allow_unicode=True))
        command = [
            str(binary(version)),
            *("-c", str(config_path)),
            *("--admin-address-path", str(address_path)),
            *("--concurrency", str(concurrency)),
            *("--log-level", "info"),
            "--use-dynamic-base-id",
            *arguments,
        ]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={"PATH": os.defpath, **(environment or {})}
            )
        try:
            self._await_ready(address_path)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _await_ready(self, address_path: Path):
        """Envoy reports readiness on its admin address only, so that is asked until it says so."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise EnvoyRefused(self.log())
            if address_path.exists() and (address := address_path.read_text().strip()):
                self.admin = httpx.Client(base_url=f"http://{address}", timeout=10)
                try:
                    if self.admin.get("/ready").text.strip() == "LIVE":
                        return
                except httpx.TransportError:
                    pass
            time.sleep(0.01)
        raise TimeoutError(f"Envoy is not ready:\n{self.log()}")

    def port(self, listener: str = "gateway") -> int:
        statuses = self.admin.get("/listeners", params={"format": "json"}).json()["listener_statuses"]
        status = next(status for status in statuses if status["name"] == listener)
        return status["local_address"]["socket_address"]["port_value"]

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stats(self, pattern: str) -> dict[str, int]:
        answer = self.admin.get("/stats", params={"filter": pattern, "format": "json"}).json()
        return {stat["name"]: stat["value"] for stat in answer["stats"] if "value" in stat}

    def prometheus(self) -> str:
        return self.admin.get("/stats/prometheus").text

    def await_stat(self, name: str, minimum: int, timeout: float = 10):
        """Returns once the counter has reached the minimum; Envoy has no event for it."""
        deadline = time.monotonic() + timeout
        while (value := self.stats(f"^{name}$").get(name, 0)) < minimum:
            assert time.monotonic() < deadline, f"{name} is {value}, not {minimum}:\n{self.log()[-2000:]}"
            time.sleep(0.02)

    def await_sample(self, sample: str, timeout: float = 10):
        """Returns once Prometheus would read this line: histograms are merged at every flush of the statistics."""
        deadline = time.monotonic() + timeout
        while sample not in (samples := self.prometheus().splitlines()):
            assert time.monotonic() < deadline, [line for line in samples if line.startswith("keyward")]
            time.sleep(0.02)

    def await_log(self, text: str, timeout: float = 10):
        deadline = time.monotonic() + timeout
        while text not in self.log():
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log()[-3000:]}"
            time.sleep(0.02)

    def stop(self):
        self.admin.close()
        assert ended(self.process), f"it had to be killed:\n{self.log()[-2000:]}"

    def assert_no_trap(self):
        """A panic of the filter shows in Envoy's log as a failed function and a back trace."""
        traps = [line for line in self.log().splitlines() if "Proxy-Wasm plugin in-VM backtrace" in line]
        traps += [line for line in self.log().splitlines() if "Function: proxy_on" in line and "failed" in line]
        assert not traps, "\n".join(traps)


def ended(process: subprocess.Popen) -> bool:
    """Ends a process by its id; whether it did so itself."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


class EnvoyRefused(Exception):
    """Envoy ended at start; the message is its log."""


def validate(config_path: Path, environment: dict[str, str], version: str = CURRENT) -> subprocess.CompletedProcess:
    command = [str(binary(version)), "--mode", "validate", "-c", str(config_path), "--use-dynamic-base-id"]
    environment = {"PATH": os.defpath, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def write_atomically(path: Path, value):
    """Envoy watches for renames only, so that it never reads half a file."""
    scratch = path.with_suffix(".new")
    scratch.write_text(value if isinstance(value, str) else json.dumps(value))
    scratch.rename(path)
