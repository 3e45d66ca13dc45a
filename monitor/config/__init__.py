"""Settings: the only place that reads the environment.

Each comes from `GROUNDWATCH_<SECTION>__<NAME>`, else from the TOML file that `GROUNDWATCH_CONFIG` names (default:
`groundwatch.toml` in the working directory, else what a running `groundwatch up` left there), else from the default
here; an empty variable counts as absent. The docstring under each field is its documentation; `docs/settings.md` is
generated from it and a test holds the two together.
"""

from monitor.config.access import AccessSettings
from monitor.config.check import CheckSettings
from monitor.config.judges import (
    BudgetSettings,
    EncoderSettings,
    EvaluatorRuleSettings,
    EvaluatorSettings,
    GgufSettings,
    PolicySettings,
    PoolSettings,
    PriceSettings,
    ScreenSettings,
)
from monitor.config.places import KafkaSettings, PostgresSettings
from monitor.config.redaction import RedactionRuleSettings, RedactionSettings
from monitor.config.sampling import SamplingRuleSettings, SamplingSettings
from monitor.config.section import HttpUrl, Prompt, Section
from monitor.config.settings import (
    LOCAL_SETTINGS,
    Settings,
    load_settings,
    shown,
    source,
    to_environment,
    to_toml,
    variable,
)
from monitor.config.sidecar import SidecarSettings
from monitor.config.workers import (
    AlertSettings,
    DriftSettings,
    JudgeSettings,
    LedgerSettings,
    RateSettings,
    TelemetrySettings,
)

__all__ = [
    "LOCAL_SETTINGS",
    "AccessSettings",
    "AlertSettings",
    "BudgetSettings",
    "CheckSettings",
    "DriftSettings",
    "EncoderSettings",
    "EvaluatorRuleSettings",
    "EvaluatorSettings",
    "GgufSettings",
    "HttpUrl",
    "JudgeSettings",
    "KafkaSettings",
    "LedgerSettings",
    "PolicySettings",
    "PoolSettings",
    "PostgresSettings",
    "PriceSettings",
    "Prompt",
    "RateSettings",
    "RedactionRuleSettings",
    "RedactionSettings",
    "SamplingRuleSettings",
    "SamplingSettings",
    "ScreenSettings",
    "Section",
    "Settings",
    "SidecarSettings",
    "TelemetrySettings",
    "load_settings",
    "shown",
    "source",
    "to_environment",
    "to_toml",
    "variable",
]
