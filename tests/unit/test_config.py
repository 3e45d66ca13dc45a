"""Settings: environment over file over default; a bad value is named, and no secret is ever shown."""

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer import Typer
from typer.testing import CliRunner

from monitor.cli import settings as command
from monitor.config import Settings, load_settings, shown, source, to_environment, to_toml, variable
from monitor.domain.errors import InvalidSettings

SECRET = "hunter2-secret"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable of ours, and an empty working directory."""
    for name in list(os.environ):
        if name.upper().startswith("GROUNDWATCH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal() -> str:
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    # What a bug report would show beside the message.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_defaults_need_nothing() -> None:
    assert load_settings().kafka.partitions == 4
    assert source("kafka", "partitions") == "default"


def test_the_file_wins_over_the_default_and_the_environment_over_the_file(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "groundwatch.toml").write_text("[kafka]\npartitions = 7\nreplication_factor = 3\n")
    monkeypatch.setenv("GROUNDWATCH_KAFKA__PARTITIONS", "9")
    kafka = load_settings().kafka
    assert (kafka.partitions, kafka.replication_factor, kafka.traces_topic) == (9, 3, "rag.traces.v1")
    assert source("kafka", "partitions") == "environment"
    assert source("kafka", "replication_factor") == "groundwatch.toml"


def test_a_named_file_is_used_and_a_missing_one_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bare / "other.toml"
    monkeypatch.setenv("GROUNDWATCH_CONFIG", str(other))
    assert refusal() == f"GROUNDWATCH_CONFIG: {str(other)!r} is no file"
    other.write_text("[policy]\nthreshold = 0.25\n")
    assert load_settings().policy.threshold == 0.25


def test_a_file_that_is_no_toml_is_named(bare: Path) -> None:
    (bare / "groundwatch.toml").write_text(f"[kafka\nsasl_password = {SECRET}")
    message = refusal()
    assert message.startswith("groundwatch.toml: ")
    assert SECRET not in message


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("content-encoding", "leave it out"),
        ("Host", "leave it out"),
        ("a b", "String should match pattern"),
        ("x-key\\r\\nx", "String should match pattern"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch, header: str, said: str
) -> None:
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__TEE_HEADERS", f'{{"{header}": "{SECRET}"}}')
    message = refusal()
    assert message.startswith("sidecar.tee_headers")
    assert said in message
    assert SECRET not in message


@pytest.mark.parametrize("value", ["", " k", "k ", "k\\r\\nhost: evil", "ü", "\\u0000"])
def test_a_headers_value_that_cannot_be_sent_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__TEE_HEADERS", f'{{"x-api-key": "{value}"}}')
    message = refusal()
    assert message.startswith("sidecar.tee_headers")
    assert "evil" not in message


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_POOL__URL", "")
    assert load_settings().pool.url is None
    assert source("pool", "url") == "default"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KAFKA__SECURITY_PROTOCOL", "TLS", ["kafka.security_protocol = 'TLS'", "PLAINTEXT", "SASL_SSL"]),
        ("KAFKA__PARTITIONS", "many", ["kafka.partitions = 'many'", "integer"]),
        ("KAFKA__PARTITIONS", "0", ["kafka.partitions = '0'", "greater than or equal to 1"]),
        ("KAFKA__SASL_MECHANISM", "GSSAPI", ["kafka.sasl_mechanism = 'GSSAPI'", "SCRAM-SHA-512"]),
        ("POLICY__EDGE", "some", ["policy.edge = 'some'", "'all', 'unsure' or 'none'"]),
        ("POLICY__THRESHOLD", "1.5", ["policy.threshold = '1.5'", "less than or equal to 1"]),
        ("POLICY__THRESHOLD", "nan", ["policy.threshold = 'nan'"]),
        ("TELEMETRY__LOG_LEVEL", "debug", ["telemetry.log_level = 'debug'", "'DEBUG'"]),
        ("TELEMETRY__OTLP_ENDPOINT", "collector:4318", ["telemetry.otlp_endpoint = 'collector:4318'", "http://"]),
        ("GGUF__PROMPT", "haiku", ["gguf.prompt = 'haiku'", "lynx"]),
        ("JUDGE__BATCH_SECONDS", "0", ["judge.batch_seconds = '0'", "greater than 0"]),
        ("JUDGE__BATCH_SECONDS", "inf", ["judge.batch_seconds = 'inf'"]),
        ("SIDECAR__PORT", "65536", ["sidecar.port = '65536'", "65535"]),
        ("SIDECAR__TEE_ENDPOINT", "collector:4317", ["sidecar.tee_endpoint = 'collector:4317'", "http://"]),
        ("SIDECAR__TEE_ENDPOINT", "http://localhost:8710/v1/traces", ["sidecar: ", "tee_endpoint", "own address"]),
    ],
)
def test_a_bad_value_is_refused_with_its_name_the_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: list[str]
) -> None:
    monkeypatch.setenv(f"GROUNDWATCH_{name}", value)
    message = refusal()
    assert not [part for part in said if part not in message], message
    assert "\n" not in message


def test_every_bad_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_KAFKA__PARTITIONS", "x")
    monkeypatch.setenv("GROUNDWATCH_POLICY__EDGE", "y")
    assert [line.split(" ")[0] for line in refusal().splitlines()] == ["kafka.partitions", "policy.edge"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("KAFKA__PARTITION", "kafka.partition: no such setting; did you mean partitions?"),
        ("KAFKA__ZZZ", "kafka.zzz: no such setting; there are bootstrap_servers, "),
        ("KAFKKA__PARTITIONS", "GROUNDWATCH_KAFKKA__PARTITIONS: no such section; did you mean kafka?"),
    ],
)
def test_an_unknown_name_is_refused_with_a_better_one(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setenv(f"GROUNDWATCH_{name}", SECRET)
    message = refusal()
    assert message.startswith(said)
    assert SECRET not in message


def test_an_unknown_section_in_the_file_is_refused(bare: Path) -> None:
    (bare / "groundwatch.toml").write_text("[polcy]\nthreshold = 0.5\n")
    assert refusal() == "polcy: no such section; did you mean policy?"


def test_what_kubernetes_puts_into_a_pod_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_SIDECAR_PORT", "tcp://10.0.0.1:8710")
    monkeypatch.setenv("GROUNDWATCH_SIDECAR_SERVICE_HOST", "10.0.0.1")
    assert load_settings().sidecar.port == 8710


@pytest.mark.parametrize(
    "environment",
    [
        {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "KAFKA__SASL_PASSWORD": SECRET},
        {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "KAFKA__SASL_USERNAME": "u", "KAFKA__SASL_MECHANISM": "PLAIN"},
    ],
)
def test_sasl_is_whole_or_refused(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"GROUNDWATCH_{name}", value)
    message = refusal()
    assert message.startswith("kafka: security_protocol SASL_SSL also needs sasl_")
    assert SECRET not in message


def test_a_keys_password_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_KAFKA__SSL_KEY_PASSWORD", SECRET)
    assert "ssl_key_password also needs" in refusal()
    assert SECRET not in refusal()


def test_further_pool_servers_need_a_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_POOL__URLS", '["http://b/v1"]')
    with pytest.raises(InvalidSettings, match="urls are further servers"):
        load_settings()
    monkeypatch.setenv("GROUNDWATCH_POOL__URL", "http://a/v1")
    assert load_settings().pool.urls == ("http://b/v1",)


def test_the_unsure_band_is_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_POLICY__UNSURE_LOW", "0.7")
    assert refusal() == "policy: unsure_low 0.7 must not be above unsure_high 0.65"


@pytest.mark.parametrize(
    "file",
    [
        f'[postgres]\nurl = ["{SECRET}"]\n',
        f'[pool]\napi_key = {{a = "{SECRET}"}}\n',
        f'[kafka]\nsasl_passwrod = "{SECRET}"\n',
        f'[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_password = "{SECRET}"\n',
        f'kafka = "{SECRET}"\n',
        f'[pool]\nurl = "ftp://user:{SECRET}@pool"\n',
    ],
)
def test_no_message_shows_a_secret(bare: Path, file: str) -> None:
    (bare / "groundwatch.toml").write_text(file)
    assert SECRET not in refusal()


def test_a_section_that_is_no_json_in_the_environment_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES", f"{{{SECRET}")
    message = refusal()
    assert "postgres" in message
    assert SECRET not in message


@pytest.mark.parametrize("name", ["ALERTS__ENCRYPTION_KEYS", "POOL__URLS"])
def test_a_list_that_is_no_json_in_the_environment_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"GROUNDWATCH_{name}", SECRET)
    assert refusal() == f'GROUNDWATCH_{name}: not JSON; write ["…", "…"]'


def test_settings_printed_or_shown_hide_secrets() -> None:
    settings = load_settings(postgres={"url": f"postgresql://u:{SECRET}@h/d"}, pool={"api_key": SECRET})
    assert SECRET not in repr(settings)
    assert SECRET not in str(shown(settings.postgres.url))
    assert shown(f"http://u:{SECRET}@pool:8000/v1") == "http://**********@pool:8000/v1"
    keys = load_settings(alerts={"encryption_keys": [SECRET]}).alerts.encryption_keys
    assert shown(keys) == '["**********"]'
    headers = load_settings(sidecar={"tee_headers": {"x-api-key": SECRET}}).sidecar.tee_headers
    assert shown(headers) == '{"x-api-key": "**********"}'


def test_a_child_process_reads_the_very_same_settings(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = load_settings(
        kafka={"partitions": 3, "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}
        | {"sasl_password": SECRET},
        policy={"threshold": 0.1},
        sidecar={"spool_sync": False, "spool_directory": 'odd "name"\\', "tee_headers": {"x-api-key": SECRET}},
        postgres={"url": "postgresql:///d?host=/tmp/x"},
        pool={
            "url": "http://a/v1",
            "urls": ["http://b/v1", "http://c/v1"],
            "prices": {'odd "model"': {"prompt": 0.5, "completion": 2.0}},
            "tenant_budgets": {"acme": {"tokens": 5}, "Größe": {"usd": 0.25}},
        },
        evaluators={"rules": [{"services": "acme/*", "evaluators": ["conciseness"], "share": 0.5}]},
    )
    (bare / "groundwatch.toml").write_text(to_toml(own))
    assert load_settings() == own
    (bare / "groundwatch.toml").unlink()
    for name, value in to_environment(own).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == own


def run(*arguments: str) -> str:
    app = Typer()
    command.register(app)
    app.callback()(lambda: None)  # with two commands or a callback typer keeps the command's name
    result = CliRunner().invoke(app, ["settings", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_shows_each_value_and_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", f"postgresql://u:{SECRET}@h/d")
    rows = {row["setting"]: row for row in json.loads(run("--json"))}
    assert rows["postgres.url"]["source"] == "environment"
    assert rows["kafka.partitions"] == {
        "setting": "kafka.partitions",
        "variable": "GROUNDWATCH_KAFKA__PARTITIONS",
        "value": 4,
        "source": "default",
        "meaning": rows["kafka.partitions"]["meaning"],
    }
    assert len(rows) == sum(len(section.annotation.model_fields) for section in Settings.model_fields.values())
    table = run()
    assert "kafka.partitions" in table
    assert "…" not in table
    assert SECRET not in table + json.dumps(rows)


def test_every_setting_is_documented_and_has_one_variable() -> None:
    fields = [
        (section, name, field)
        for section, declared in Settings.model_fields.items()
        for name, field in declared.annotation.model_fields.items()
    ]
    assert not [f"{section}.{name}" for section, name, field in fields if not field.description]
    assert len({variable(section, name) for section, name, _ in fields}) == len(fields)


def test_the_page_in_docs_is_the_rendering() -> None:
    page = Path(__file__).parents[2] / "docs/settings.md"
    assert page.read_text("utf-8") == command.render_settings() == run("--markdown")


def test_secrets_are_typed_as_secrets() -> None:
    settings = load_settings(kafka={"sasl_password": "x"}, pool={"api_key": "x"})
    held = (settings.kafka.sasl_password, settings.pool.api_key, settings.postgres.url)
    assert all(isinstance(value, SecretStr) for value in held)
