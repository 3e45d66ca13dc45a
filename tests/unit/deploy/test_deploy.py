"""The deployment files are what their own formats say, and fit the product that they start.

No container engine runs in the tests: what can be read without one is held here.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from monitor.config import Settings
from monitor.wire import MAX_MESSAGE_BYTES
from workers.main import WORKERS

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COLLECTOR = yaml.safe_load((DEPLOY / "otel-collector.yaml").read_text("utf-8"))
OURS = sorted(name for name, service in SERVICES.items() if "GROUNDWATCH_IMAGE" in service["image"])


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            name = rest.rpartition(" AS ")[2]
            found[name] = []
        if name:
            found[name].append((word, rest))
    return found


FINAL = list(stages())[-1]


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_is_what_the_compose_specification_says(file: str) -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec/compose-spec.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(yaml.safe_load((DEPLOY / file).read_text("utf-8")))


def test_every_worker_and_the_sidecar_and_the_migrations_are_run() -> None:
    commands = {tuple(SERVICES[name].get("entrypoint", ["groundwatch"]) + SERVICES[name]["command"]) for name in OURS}
    workers = {("groundwatch-worker", name) for name in WORKERS}
    more = {("groundwatch", "sidecar"), ("groundwatch", "migrate"), ("groundwatch-worker", "judge", "--replays")}
    assert commands == workers | more


def environments() -> Iterator[tuple[str, str, Any]]:
    override = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text("utf-8"))["services"]
    for name, service in [*SERVICES.items(), *override.items()]:
        for variable, value in service.get("environment", {}).items():
            yield name, variable, value


def test_every_variable_of_ours_is_a_setting() -> None:
    for service, variable, _ in environments():
        # A file of settings is named by a variable that is none itself.
        if variable.startswith("GROUNDWATCH_") and variable != "GROUNDWATCH_CONFIG":
            section, _, field = variable.removeprefix("GROUNDWATCH_").lower().partition("__")
            assert section in Settings.model_fields, f"{service}: {variable}"
            assert field in Settings.model_fields[section].annotation.model_fields, f"{service}: {variable}"


def test_no_secret_is_written_down() -> None:
    secret = re.compile("PASSWORD|API_KEY|SECRET|TOKEN|POSTGRES__URL")
    values = [str(value) for _, variable, value in environments() if secret.search(variable)]
    assert values
    assert all(re.search(r"\$\{[A-Z_]+:[?-]", value) for value in values), values
    example = dict(
        line.split("=", 1) for line in (DEPLOY / ".env.example").read_text().splitlines() if re.match(r"[A-Z_]+=", line)
    )
    assert example["POSTGRES_PASSWORD"] == example["POOL_API_KEY"] == ""
    interpolated = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    assert interpolated == set(example)


def test_only_what_needs_the_ledger_gets_its_password() -> None:
    holders = {name for name, _, value in environments() if "POSTGRES_PASSWORD" in str(value)}
    assert holders == {"postgres", "migrate", "ledger", "pool", "drift", "alerts"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_limited_pinned_and_has_a_health_check_or_a_reason_for_none(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    assert re.search(r":(\d+\.\d+\S*|\$?\{?\S*cpu\}?)$", service["image"]), service["image"]
    assert "healthcheck" in service or name == "collector"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_no_more_than_they_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_what_is_waited_for_is_there_and_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"
    assert "depends_on" not in SERVICES["sidecar"]  # it takes traces while Kafka is away
    for judge in ("judge", "replays"):
        assert set(SERVICES[judge]["depends_on"]) == {"kafka"}  # an edge site has no database


def test_the_judges_of_replays_are_described_in_a_file_of_their_own() -> None:
    service = SERVICES["replays"]
    assert service["profiles"] == ["replays"]
    # Variables win over the file: what they set here, the file could not.
    given = {name for name in service["environment"] if name.startswith("GROUNDWATCH_")}
    assert given == {
        "GROUNDWATCH_CONFIG",
        "GROUNDWATCH_KAFKA__BOOTSTRAP_SERVERS",
        "GROUNDWATCH_TELEMETRY__OTLP_ENDPOINT",
    }
    folder = service["environment"]["GROUNDWATCH_CONFIG"].rpartition("/")[0]
    assert f"${{REPLAYS_DIRECTORY:-./replays}}:{folder}:ro" in service["volumes"]


def test_published_ports_are_for_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_named_volumes_are_declared_and_used() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in mounted if re.match(r"\w", name)} == set(COMPOSE["volumes"])


def test_the_broker_takes_our_largest_message_and_is_the_version_we_test_on() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"] >= MAX_MESSAGE_BYTES + 64 * 1024
    assert kafka["environment"]["KAFKA_REPLICA_FETCH_MAX_BYTES"] >= kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"]
    version = kafka["image"].rpartition(":")[2]
    assert f"<version>{version}</version>" in (ROOT / "tests/kafka/pom.xml").read_text("utf-8")


def test_the_collector_takes_what_we_send_and_every_part_is_declared_and_used() -> None:
    service = COLLECTOR["service"]
    assert set(service["extensions"]) == set(COLLECTOR["extensions"])
    for kind in ("receivers", "processors", "exporters"):
        used = {part for pipeline in service["pipelines"].values() for part in pipeline[kind]}
        assert used == set(COLLECTOR[kind]), kind
    assert set(service["pipelines"]) == {"metrics", "logs", "traces"}
    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in service["pipelines"].values())
    port = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    endpoint = SERVICES["sidecar"]["environment"]["GROUNDWATCH_TELEMETRY__OTLP_ENDPOINT"]
    assert endpoint == f"http://collector:{port}"
    scraped = COLLECTOR["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert SERVICES["collector"]["ports"] == [f"127.0.0.1:{scraped}:{scraped}"]
    memory = COLLECTOR["processors"]["memory_limiter"]
    assert memory["limit_mib"] + memory["spike_limit_mib"] < 256


def test_judged_text_is_kept_out_of_the_collectors_log() -> None:
    for name, pipeline in COLLECTOR["service"]["pipelines"].items():
        if "debug" in pipeline["exporters"]:
            assert "attributes/no-judged-text" in pipeline["processors"], name


def test_the_image_is_built_in_stages_whose_names_exist() -> None:
    known = set(stages())
    copied = {match for _, rest in instructions() for match in re.findall(r"--from=(\S+)", rest)}
    assert copied <= known
    assert {f"{base}-{variant}" for base in ("compilers", "base") for variant in ("cpu", "gpu")} <= known


def test_every_base_image_is_pinned_by_a_full_tag() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG" and "=" in rest)
    images = {value for name, value in arguments.items() if name.endswith("IMAGE")}
    assert len(images) == 3
    assert all(re.search(r":\d+\.\d+\.\d+-", image) for image in images), images


def test_dependencies_are_installed_by_hash_from_locks_that_exist() -> None:
    runs = " ".join(rest for word, rest in stages()["environment"] if word == "RUN")
    assert "uv pip install --require-hashes" in runs
    locks = {rest.rpartition("LOCK=")[2] for word, rest in instructions() if word == "ENV" and "LOCK=" in rest}
    assert locks == {"requirements.lock", "deploy/requirements-gpu.lock"}
    for lock in locks:
        pins = re.findall(r"^\S+==\S+.*\\$", (ROOT / lock).read_text(), re.MULTILINE)
        assert len(pins) > 40, lock


def test_the_two_locks_differ_in_the_screens_runtime_only() -> None:
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9_.-]+==\S+", (ROOT / lock).read_text(), re.MULTILINE))

    cpu, gpu = pins("requirements.lock"), pins("deploy/requirements-gpu.lock")
    assert {pin.partition("==")[0] for pin in cpu ^ gpu} == {"onnxruntime", "onnxruntime-gpu"}


def test_the_final_image_runs_as_nobody_in_particular_without_compilers() -> None:
    final = [*stages()["base-cpu"], *stages()["base-gpu"], *stages()[FINAL]]
    assert ("USER", "10001:10001") in final
    assert ("STOPSIGNAL", "SIGTERM") in final
    assert ("ENTRYPOINT", '["groundwatch"]') in final
    assert "HEALTHCHECK" in dict(final)
    runs = " ".join(rest for word, rest in final if word == "RUN")
    assert not re.search(r"build-essential|g\+\+|gcc|cmake|pip|curl", runs)
    assert "devel" not in dict(instructions_of_arguments())["CUDA_IMAGE"]


def instructions_of_arguments() -> list[tuple[str, str]]:
    return [(rest.partition("=")[0], rest.partition("=")[2]) for word, rest in instructions() if word == "ARG"]


def test_what_the_image_copies_is_let_through_and_nothing_else() -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "**"
    let_through = {rule[1:].removesuffix("/**") for rule in rules if rule.startswith("!")}
    copied = {
        source.removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)
