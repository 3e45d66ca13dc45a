"""Settings of the judges, from the screen to the pool, of the policy that chooses among them, and of evaluators."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from monitor.config.section import HttpUrl, Prompt, Seconds, Section, Share


class ScreenSettings(Section):
    """The screen: lexical evidence under a small ONNX model."""

    model: Path | None = None
    """ONNX model; the shipped one when absent."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """onnxruntime threads; one is fastest for so small a model."""


class GgufSettings(Section):
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


class PriceSettings(Section):
    """What a model costs, in USD per million tokens."""

    prompt: Annotated[float, Field(ge=0)] = 0.0
    """Reading."""
    cached_prompt: Annotated[float, Field(ge=0)] | None = None
    """Reading what lies in the server's prefix cache; as `prompt` when absent."""
    completion: Annotated[float, Field(ge=0)] = 0.0
    """Writing."""


class BudgetSettings(Section):
    """What a tenant may spend in one UTC day; without limit where absent."""

    tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens read and written."""
    usd: Annotated[float, Field(ge=0)] | None = None
    """Money, by the price table."""


class EncoderSettings(Section):
    """The encoder judge: any ONNX sequence-pair or token-classification model with a manifest."""

    manifest: Path | None = None
    """`encoder.json`, or the folder that holds it; no encoder judge when absent."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """onnxruntime threads."""
    max_windows: Annotated[int, Field(ge=1, le=64)] = 4
    """Windows that are read of one trace, those that hold most of the answer first; the others are listed unread."""
    deadline_seconds: Seconds = 10.0
    """No trace may hold the encoder judge longer."""


class PoolSettings(Section):
    """The 70B pool behind an OpenAI-compatible API (vLLM, SGLang, llama.cpp's server); see docs/pool.md."""

    url: HttpUrl | None = None
    """Base URL such as `http://pool:8000/v1`; no pool when absent."""
    urls: tuple[HttpUrl, ...] = ()
    """Base URLs of further servers with the same model; each call goes to one that is well and not busy."""
    path: Path | None = None
    """GGUF file that `groundwatch judge` and `groundwatch bench` serve on this machine where no URL is set."""
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
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """Price table: model to `prompt`, `cached_prompt` and `completion`, in USD per million tokens."""
    budget_tokens_per_day: Annotated[int, Field(ge=0)] | None = None
    """Tokens that each tenant may use in one UTC day; no limit when absent."""
    budget_usd_per_day: Annotated[float, Field(ge=0)] | None = None
    """Money that each tenant may use in one UTC day; no limit when absent."""
    tenant_budgets: dict[str, BudgetSettings] = Field(default_factory=dict)
    """Budgets of single tenants instead of those two: tenant to `tokens` and `usd`, each without limit when absent."""

    @model_validator(mode="after")
    def _further_servers_need_a_first(self) -> Self:
        if self.urls and self.url is None:
            raise ValueError("urls are further servers: url is not set")
        return self


class PolicySettings(Section):
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
    escalate_replays: bool = False
    """Whether a replay's traces go to the pool, after live ones, from the same budgets; part of the judge version."""
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


class EvaluatorRuleSettings(Section):
    """Which evaluators some services' traces are seen by."""

    services: Annotated[str, Field(min_length=1)]
    """Pattern for `tenant/service`, such as `acme/*`."""
    evaluators: tuple[str, ...]
    """Their names."""
    share: Share = 1.0
    """Share of those traces that they see, chosen by a hash of the trace id."""


class EvaluatorSettings(Section):
    """Evaluators beyond faithfulness, for `groundwatch evaluate`; see docs/evaluators.md."""

    directory: Path | None = None
    """Folder of YAML files that declare evaluators; the shipped ones when absent."""
    rules: tuple[EvaluatorRuleSettings, ...] = ()
    """Who sees what: each with `services` (a pattern such as `acme/*`), `evaluators` (names) and `share` (or 1)."""
    deadline_seconds: Seconds = 120.0
    """One row and one evaluator, retries included."""
