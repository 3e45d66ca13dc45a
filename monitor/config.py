"""Settings: the only place that reads the environment.

Each comes from `GROUNDWATCH_<SECTION>__<NAME>`, else from the TOML file that `GROUNDWATCH_CONFIG` names (default:
`groundwatch.toml` in the working directory, else what a running `groundwatch up` left there), else from the default
here; an empty variable counts as absent. The docstring under each field is its documentation; `docs/settings.md` is
generated from it and a test holds the two together.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from monitor.domain.errors import InvalidSettings
from monitor.judging.prompts import PROMPTS

LOCAL_SETTINGS = Path(".groundwatch/settings.toml")
"""Where `groundwatch up` says, while it runs, how to reach what it started from the same working directory."""

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]

_PREFIX = "GROUNDWATCH_"
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


def _over_http(url: str) -> str:
    if not re.match(r"https?://[^\s/]", url):
        raise ValueError("URL should start with http:// or https:// and a host")
    return url


def _known_prompt(name: str) -> str:
    if name not in PROMPTS:
        raise ValueError(f"Input should be one of {', '.join(PROMPTS)}")
    return name


HttpUrl = Annotated[str, AfterValidator(_over_http)]
Prompt = Annotated[str, AfterValidator(_known_prompt)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class KafkaSettings(_Section):
    """Where Kafka is, and what our topics are called."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers as `host:port`, separated by commas."""
    traces_topic: str = "rag.traces.v1"
    """Traces, from the sidecars to the judge workers."""
    judgements_topic: str = "rag.judgements.v1"
    """Judgements, from the judge workers to the ledger worker."""
    dead_letters_topic: str = "rag.dead-letters.v1"
    """Records that could not be read, with their reason and bytes."""
    alerts_topic: str = "rag.alerts.v1"
    """Alerts, for systems that subscribe through Kafka."""
    partitions: Annotated[int, Field(ge=1, le=1024)] = 4
    """Partitions of a topic that groundwatch creates; the number of judge workers cannot usefully exceed it."""
    replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    """Replicas of a topic that groundwatch creates; 3 in production."""
    session_timeout_seconds: Seconds = 30.0
    """A worker that sends no heartbeat for this long loses its partitions to another."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """SASL mechanism, where the protocol is SASL_*."""
    sasl_username: str | None = None
    """SASL user."""
    sasl_password: SecretStr | None = None
    """SASL password; better given by the environment than in the file."""
    ssl_ca_file: Path | None = None
    """CA bundle for TLS; the system's own when absent."""

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        names = ("sasl_mechanism", "sasl_username", "sasl_password")
        missing = [name for name in names if getattr(self, name) is None]
        if self.security_protocol.startswith("SASL_") and missing:
            raise ValueError(f"security_protocol {self.security_protocol} also needs {', '.join(missing)}")
        return self


class PostgresSettings(_Section):
    """Where the ledger is."""

    url: SecretStr = SecretStr("postgresql://groundwatch@127.0.0.1:5432/groundwatch")
    """libpq URL of the ledger database."""
    connect_timeout_seconds: Seconds = 5.0
    """How long to wait for a connection before trying again."""
    statement_timeout_seconds: Seconds = 30.0
    """No statement runs longer; it is cancelled and its batch tried again."""


class SidecarSettings(_Section):
    """The process beside the RAG service."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8710
    """Port to listen on; 0 takes a free one."""
    spool_directory: Path = Path("spool")
    """Where accepted traces wait until Kafka has them. Must survive a restart."""
    spool_max_bytes: Annotated[int, Field(ge=16_777_216)] = 1_073_741_824
    """Above this the sidecar answers 503 rather than fill the disk."""
    spool_sync: bool = True
    """fsync before answering. Without it, a power cut or a crash of the machine can lose what was acknowledged."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Traces in one request."""
    max_request_bytes: Annotated[int, Field(ge=1024)] = 16_777_216
    """Size of one request; larger is refused with 413 before it is read."""


class ScreenSettings(_Section):
    """The screen: lexical evidence under a small ONNX model."""

    model: Path | None = None
    """ONNX model; the shipped one when absent."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """onnxruntime threads; one is fastest for so small a model."""


class GgufSettings(_Section):
    """The edge judge: any GGUF model under llama.cpp."""

    path: Path | None = None
    """GGUF file; no edge judge when absent."""
    prompt: Prompt = "lynx"
    """Prompt family."""
    context_tokens: Annotated[int, Field(ge=256, le=131_072)] = 4096
    """Window of one prompt. Documents that do not fit are read in several windows."""
    explain: Literal["never", "findings", "always"] = "findings"
    """Which verdicts get reasoning in words: findings are hallucinated, unsure and audited traces."""
    max_windows: Annotated[int, Field(ge=1, le=64)] = 4
    """Windows that are read of one trace, those that hold most of the answer first; the others are listed unread."""
    sequences: Annotated[int, Field(ge=1, le=256)] = 2
    """Prompts under way at once, being read or having their reasoning written; each takes the memory of a window."""
    reading: Annotated[int, Field(ge=1, le=256)] = 1
    """Prompts read at once. 1 is fastest on CPUs; more where short prompts leave a GPU idle."""
    gpu_layers: Annotated[int, Field(ge=-1)] = -1
    """Layers to offload; -1 offloads all where the build has a GPU back end."""
    main_gpu: Annotated[int, Field(ge=0)] = 0
    """The GPU that holds what is not split."""
    tensor_split: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Share of the model for each GPU, as a JSON list such as `[0.5, 0.5]`; llama.cpp shares by free memory without."""
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """Flash attention; auto uses it where the back end has it."""
    cache_type: Literal["f16", "q8_0"] = "f16"
    """Number type of the cache of keys and values; q8_0 takes half the memory and needs flash attention."""
    max_memory_mib: Annotated[int, Field(ge=0)] = 0
    """Weights and cache together may not take more; a judge that would is not started. 0 for no limit."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 lets llama.cpp choose."""
    deadline_seconds: Seconds = 20.0
    """No trace may hold the edge judge longer."""


class PriceSettings(_Section):
    """What a model costs, in USD per million tokens."""

    prompt: Annotated[float, Field(ge=0)] = 0.0
    """Reading."""
    cached_prompt: Annotated[float, Field(ge=0)] | None = None
    """Reading what lies in the server's prefix cache; as `prompt` when absent."""
    completion: Annotated[float, Field(ge=0)] = 0.0
    """Writing."""


class BudgetSettings(_Section):
    """What a tenant may spend in one UTC day; without limit where absent."""

    tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens read and written."""
    usd: Annotated[float, Field(ge=0)] | None = None
    """Money, by the price table."""


class EncoderSettings(_Section):
    """The encoder judge: any ONNX sequence-pair or token-classification model with a manifest."""

    manifest: Path | None = None
    """`encoder.json`, or the folder that holds it; no encoder judge when absent."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """onnxruntime threads."""
    max_windows: Annotated[int, Field(ge=1, le=64)] = 4
    """Windows that are read of one trace, those that hold most of the answer first; the others are listed unread."""
    deadline_seconds: Seconds = 10.0
    """No trace may hold the encoder judge longer."""


class PoolSettings(_Section):
    """The 70B pool behind an OpenAI-compatible API (vLLM, SGLang, llama.cpp's server); see docs/pool.md."""

    url: HttpUrl | None = None
    """Base URL such as `http://pool:8000/v1`; no pool when absent."""
    urls: tuple[HttpUrl, ...] = ()
    """Base URLs of further servers with the same model; each call goes to one that is well and not busy."""
    model: str = "lynx-70b"
    """Model name as the server knows it."""
    revision: str = "unpinned"
    """The weights' revision or hash: part of the judge's version, so change it when they change."""
    api_key: SecretStr | None = None
    """Bearer token, where the server wants one."""
    prompt: Prompt = "lynx"
    """Prompt family."""
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 600
    """Longest answer of the judge."""
    deadline_seconds: Seconds = 60.0
    """One call, retries excluded."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Calls for one trace, the first included; between them exponential back-off with jitter."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Calls in flight to each server at most; fewer after it was busy or too slow, until it does well again."""
    hedge: Literal["auto", "always", "never"] = "auto"
    """Whether a call slower than 95 % of the last ones is made again, elsewhere: auto with several `urls` only."""
    hedge_share: Share = 0.05
    """Such second calls, as a share of all calls at most."""
    cache_salt: SecretStr | None = None
    """Keeps the tenants' prefix caches apart (vLLM, SGLang), by a hash keyed with this; shared when absent."""
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    """Consecutive failures that open the circuit."""
    breaker_reset_seconds: Seconds = 30.0
    """How long an open circuit waits before it lets one call try."""
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] = 0.0
    """Price of reading, for models without an entry in `prices`."""
    usd_per_million_completion_tokens: Annotated[float, Field(ge=0)] = 0.0
    """Price of writing, for models without an entry in `prices`."""
    prices: dict[str, PriceSettings] = {}
    """Price table: model to `prompt`, `cached_prompt` and `completion`, in USD per million tokens."""
    budget_tokens_per_day: Annotated[int, Field(ge=0)] | None = None
    """Tokens that each tenant may use in one UTC day; no limit when absent."""
    budget_usd_per_day: Annotated[float, Field(ge=0)] | None = None
    """Money that each tenant may use in one UTC day; no limit when absent."""
    tenant_budgets: dict[str, BudgetSettings] = {}
    """Budgets of single tenants instead of those two: tenant to `tokens` and `usd`, each without limit when absent."""

    @model_validator(mode="after")
    def _further_servers_need_a_first(self) -> Self:
        if self.urls and self.url is None:
            raise ValueError("urls are further servers: url is not set")
        return self


class PolicySettings(_Section):
    """Which tier judges what."""

    threshold: Share = 0.5
    """An answer is called hallucinated from this probability on."""
    mode: Literal["band", "value"] = "band"
    """Who is asked next: `band`: about the unsure; `value`: where that is worth its cost, see `calibrate policy`."""
    edge: Literal["all", "unsure", "none"] = "unsure"
    """Which traces the GGUF judge sees: all (a GPU), those that the screen is unsure of and the audited, or none."""
    edge_budget_share: Share = 0.25
    """Share of wall time that the edge judge may take when it does not judge all; past it, traces skip it."""
    unsure_low: Share = 0.35
    """Below this probability a judge is sure that the answer is faithful."""
    unsure_high: Share = 0.65
    """Above this probability a judge is sure that it is hallucinated."""
    escalate: Literal["auto", "always", "never"] = "auto"
    """Whether traces go to the pool: auto where `pool.url` is set; always where the pool worker runs elsewhere."""
    escalate_unsure_share: Share = 0.1
    """Share of the unsure traces that goes to the pool, chosen by a hash of the trace id."""
    audit_share: Share = 0.02
    """Share of all traces that goes to the pool whatever the judges say: what corrected rates rest on."""
    calibration: Path | None = None
    """Calibration file; the shipped one when absent."""
    cost_of_miss: Annotated[float, Field(gt=0)] = 1.0
    """By value: cost of a hallucinated answer that is called faithful, in any currency that all the costs share."""
    cost_of_false_alarm: Annotated[float, Field(gt=0)] = 1.0
    """By value: cost of a faithful answer that is called hallucinated."""
    cost_of_edge_call: Annotated[float, Field(ge=0)] = 0.0
    """By value: cost of asking the edge judge once."""
    cost_of_pool_call: Annotated[float, Field(ge=0)] = 0.0
    """By value: cost of asking the pool once."""
    edge_price: Annotated[float, Field(ge=0)] = 0.0
    """By value: what asking the edge judge must be worth beyond its cost, so that a budget is kept."""
    pool_price: Annotated[float, Field(ge=0)] = 0.0
    """By value: likewise of the pool."""

    @model_validator(mode="after")
    def _unsure_is_a_range(self) -> Self:
        if self.unsure_low > self.unsure_high:
            raise ValueError(f"unsure_low {self.unsure_low} must not be above unsure_high {self.unsure_high}")
        return self


class EvaluatorRuleSettings(_Section):
    """Which evaluators some services' traces are seen by."""

    services: Annotated[str, Field(min_length=1)]
    """Pattern for `tenant/service`, such as `acme/*`."""
    evaluators: tuple[str, ...]
    """Their names."""
    share: Share = 1.0
    """Share of those traces that they see, chosen by a hash of the trace id."""


class EvaluatorSettings(_Section):
    """Evaluators beyond faithfulness, for `groundwatch evaluate`; see docs/evaluators.md."""

    directory: Path | None = None
    """Folder of YAML files that declare evaluators; the shipped ones when absent."""
    rules: tuple[EvaluatorRuleSettings, ...] = ()
    """Who sees what: each with `services` (a pattern such as `acme/*`), `evaluators` (names) and `share` (or 1)."""
    deadline_seconds: Seconds = 120.0
    """One row and one evaluator, retries included."""


class JudgeSettings(_Section):
    """The judge worker."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Records worked on together; offsets are committed when the whole batch is durable."""
    batch_seconds: Seconds = 0.2
    """How long to wait for a batch to fill."""
    dead_letter_share_limit: Share = 0.5
    """A larger share of dead letters among recent records stops the worker instead of draining the topic."""
    dead_letter_window: Annotated[int, Field(ge=10)] = 200
    """How many recent records that share is taken over."""


class LedgerSettings(_Section):
    """The ledger worker."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Judgements in one transaction."""
    batch_seconds: Seconds = 0.2
    """How long to wait for a batch to fill."""


class DriftSettings(_Section):
    """The drift detector; see docs/decisions for the guarantees."""

    average_run_length: Annotated[float, Field(ge=100)] = 20_000
    """Verdicts between false alarms, at least, on average, per segment."""
    baseline_verdicts: Annotated[int, Field(ge=50)] = 2000
    """Verdicts of a segment from which its baseline rate is learned before it is watched."""
    allowed_lateness_seconds: Annotated[float, Field(ge=0)] = 60.0
    """A minute is folded in once the segment's newest event time is this much past its end."""
    poll_seconds: Seconds = 5.0
    """How often the drift worker looks."""


class AlertSettings(_Section):
    """Delivery of alerts."""

    allow_private_targets: bool = False
    """Let webhooks point at loopback, link-local and private addresses. Only for tests and closed networks."""
    deadline_seconds: Seconds = 10.0
    """One delivery attempt."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 12
    """Attempts before a delivery is given up and listed as dead."""
    poll_seconds: Seconds = 1.0
    """How often the outbox is read."""


class TelemetrySettings(_Section):
    """groundwatch's own OpenTelemetry."""

    otlp_endpoint: HttpUrl | None = None
    """OTLP/HTTP base URL such as `http://collector:4318`; nothing is exported when absent."""
    export_interval_seconds: Seconds = 10.0
    """How often metrics are exported."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log line that is printed."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    sidecar: SidecarSettings = SidecarSettings()
    screen: ScreenSettings = ScreenSettings()
    gguf: GgufSettings = GgufSettings()
    encoder: EncoderSettings = EncoderSettings()
    pool: PoolSettings = PoolSettings()
    policy: PolicySettings = PolicySettings()
    evaluators: EvaluatorSettings = EvaluatorSettings()
    judge: JudgeSettings = JudgeSettings()
    ledger: LedgerSettings = LedgerSettings()
    drift: DriftSettings = DriftSettings()
    alerts: AlertSettings = AlertSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class calls by keyword
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, the file over the defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _settings_file())


def _settings_file() -> Path:
    named = os.environ.get("GROUNDWATCH_CONFIG")
    if named:
        return Path(named)
    own = Path("groundwatch.toml")
    return LOCAL_SETTINGS if not own.exists() and LOCAL_SETTINGS.exists() else own


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        InvalidSettings: one line a bad value, with its name, the value (never a secret's) and what is allowed.
    """
    named = os.environ.get("GROUNDWATCH_CONFIG")
    if named and not Path(named).is_file():
        raise InvalidSettings(f"GROUNDWATCH_CONFIG: {named!r} is no file")
    _refuse_unknown_sections()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        # Without `from None` the traceback of a bug report would show the input, secrets included.
        raise InvalidSettings("\n".join(map(_explain, error.errors(include_url=False)))) from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidSettings(f"{_settings_file()}: {error}") from None
    except SettingsError as error:
        raise InvalidSettings(str(error)) from None


def variable(section: str, name: str) -> str:
    """The environment variable of one setting."""
    return f"{_PREFIX}{section}__{name}".upper()


def source(section: str, name: str) -> str:
    """Where the setting's value comes from: `environment`, the file's path, or `default`."""
    if any(key.upper() == variable(section, name) and value for key, value in os.environ.items()):
        return "environment"
    file = _settings_file()
    written = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return str(file) if name in written.get(section, {}) else "default"


def shown(value: Any) -> str | int | float | bool | None:
    """A setting's value for people and logs: no secret, and no password inside a URL."""
    if isinstance(value, SecretStr):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return _USER_INFO.sub("**********@", _as_json(value) if isinstance(value, tuple | dict) else str(value))


def _refuse_unknown_sections() -> None:
    # Only names with a double underscore: Kubernetes itself sets GROUNDWATCH_SIDECAR_PORT and the like in a pod
    # beside a service of that name.
    for key in os.environ:
        section, delimiter, _ = key.upper().removeprefix(_PREFIX).partition("__")
        if key.upper().startswith(_PREFIX) and delimiter and section.lower() not in Settings.model_fields:
            raise InvalidSettings(f"{key}: no such section{_instead(section.lower(), Settings.model_fields)}")


def _instead(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _explain(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    section, *rest = [str(part) for part in problem["loc"]]
    fields = _fields_of(section)
    if problem["type"] == "extra_forbidden":
        # Its value is not shown: it may be a secret under a mistyped name.
        return f"{name}: no such {'setting' if rest else 'section'}{_instead(rest[0] if rest else section, fields)}"
    message = problem["msg"].removeprefix("Value error, ")
    field = fields.get(rest[0]) if rest else None
    if field is None or _is_secret(field.annotation):  # a whole section as input may hold secrets
        return f"{name}: {message}"
    return f"{name} = {shown(problem['input'])!r}: {message}"


def _fields_of(section: str) -> dict[str, Any]:
    declared = Settings.model_fields.get(section)
    return dict(declared.annotation.model_fields) if declared else dict(Settings.model_fields)  # type: ignore[union-attr] # every section is a model


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child process reads exactly these settings, on top of our own environment."""
    own = {
        variable(section, name): _as_json(value) if isinstance(value, tuple | dict) else str(value)
        for section, name, value in _plain(settings)
    }
    return {**os.environ, **own}


def to_toml(settings: Settings) -> str:
    """The settings as TOML, secrets included: for a file that only its owner reads."""
    sections: dict[str, list[str]] = {}
    for section, name, value in _plain(settings):
        sections.setdefault(section, []).append(f"{name} = {_as_toml(value)}")
    return "\n".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())


def _plain(settings: Settings) -> Iterator[tuple[str, str, Any]]:
    for section, values in settings:
        for name, value in values:
            if value is not None:
                yield section, name, value.get_secret_value() if isinstance(value, SecretStr) else value


def _as_json(value: tuple[Any, ...] | dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda model: model.model_dump(exclude_none=True))


def _as_toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {_as_toml(inner)}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    # A scalar in JSON is the same scalar in TOML.
    return json.dumps(value if isinstance(value, bool | int | float) else str(value), ensure_ascii=False)
