"""Everything that can be set, read from the environment and a file."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from monitor.config.access import AccessSettings
from monitor.config.check import CheckSettings
from monitor.config.judges import (
    EncoderSettings,
    EvaluatorSettings,
    GgufSettings,
    PolicySettings,
    PoolSettings,
    ScreenSettings,
)
from monitor.config.places import KafkaSettings, PostgresSettings
from monitor.config.redaction import RedactionSettings
from monitor.config.retention import RetentionSettings
from monitor.config.sampling import SamplingSettings
from monitor.config.sidecar import SidecarSettings
from monitor.config.workers import (
    AlertSettings,
    DriftSettings,
    JudgeSettings,
    LedgerSettings,
    RateSettings,
    TelemetrySettings,
)
from monitor.domain.errors import InvalidSettings

_PREFIX = "GROUNDWATCH_"
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")

LOCAL_SETTINGS = Path(".groundwatch/settings.toml")
"""Where `groundwatch up` says, while it runs, how to reach what it started from the same working directory."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    sidecar: SidecarSettings = SidecarSettings()
    access: AccessSettings = AccessSettings()
    redaction: RedactionSettings = RedactionSettings()
    sampling: SamplingSettings = SamplingSettings()
    check: CheckSettings = CheckSettings()
    screen: ScreenSettings = ScreenSettings()
    gguf: GgufSettings = GgufSettings()
    encoder: EncoderSettings = EncoderSettings()
    pool: PoolSettings = PoolSettings()
    policy: PolicySettings = PolicySettings()
    evaluators: EvaluatorSettings = EvaluatorSettings()
    judge: JudgeSettings = JudgeSettings()
    ledger: LedgerSettings = LedgerSettings()
    drift: DriftSettings = DriftSettings()
    retention: RetentionSettings = RetentionSettings()
    rates: RateSettings = RateSettings()
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
        raise InvalidSettings(_not_json() or str(error)) from None


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


def _not_json() -> str | None:
    """The variable that should hold a list or a table as JSON and does not; its value is not shown."""
    for section in Settings.model_fields:
        for name, field in _fields_of(section).items():
            written = os.environ.get(variable(section, name))
            if written is None or get_origin(field.annotation) not in (tuple, dict):
                continue
            try:
                json.loads(written)
            except ValueError:
                form = '["…", "…"]' if get_origin(field.annotation) is tuple else '{"…": …}'
                return f"{variable(section, name)}: not JSON; write {form}"
    return None


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
                yield section, name, _opened(value)


def _opened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_opened, value))
    if isinstance(value, dict):
        return {key: _opened(inner) for key, inner in value.items()}
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _as_json(value: tuple[Any, ...] | dict[str, Any]) -> str:
    def inner(part: Any) -> Any:
        return str(part) if isinstance(part, SecretStr) else part.model_dump(exclude_none=True)

    return json.dumps(value, ensure_ascii=False, default=inner)


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
