"""Every name that groundwatch emits to OpenTelemetry, once, with its source.

`gen_ai.*` and `error.type` are OpenTelemetry's semantic conventions (docs/gen-ai/gen-ai-events.md, since v1.38;
`gen_ai.*` has the stability level Development). Everything under `groundwatch.*` is our own. docs/telemetry.md says
what each means; a test holds the two together.
"""

SCOPE = "groundwatch"
"""Instrumentation scope of all that follows."""

# Resource: semantic conventions, resource/service.md.
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"

# The event beside each judged span: gen-ai-events.md, "Event: gen_ai.evaluation.result".
EVALUATION_RESULT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE_VALUE = "gen_ai.evaluation.score.value"
EVALUATION_SCORE_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"
ERROR_TYPE = "error.type"

# Our own events.
ALERT_TRANSITION = "groundwatch.alert.transition"

# Our own attributes. Those of the first group are safe on metrics, the second are for events only.
TENANT = "groundwatch.tenant"
SERVICE = "groundwatch.service"
ENVIRONMENT = "groundwatch.environment"
OUTCOME = "groundwatch.outcome"
LABEL = "groundwatch.label"
REASON = "groundwatch.reason"
TIER = "groundwatch.tier"
TOPIC = "groundwatch.topic"
CHANNEL = "groundwatch.channel"
DIRECTION = "groundwatch.direction"
ENDPOINT = "groundwatch.endpoint"
ATTEMPT = "groundwatch.attempt"
KIND = "groundwatch.token.kind"
METHOD = "groundwatch.rate.method"

TRACE_ID = "groundwatch.trace.id"
EVALUATOR = "groundwatch.evaluator"
JUDGE_VERSION = "groundwatch.judge.version"
ALERT_ID = "groundwatch.alert.id"
ALERT_STATE = "groundwatch.alert.state"
ALERT_SEVERITY = "groundwatch.alert.severity"
ALERT_REOPENED = "groundwatch.alert.reopened"
ALERT_SLICE = "groundwatch.alert.slice"
RATE_BEFORE = "groundwatch.alert.rate_before"
RATE_AFTER = "groundwatch.alert.rate_after"
CHANGE_AT = "groundwatch.alert.change_at"
DELAY_VERDICTS = "groundwatch.alert.delay_verdicts"
EVIDENCE = "groundwatch.alert.evidence"
AVERAGE_RUN_LENGTH = "groundwatch.alert.average_run_length"

# Metrics; units are UCUM, in braces where they count things.
TRACES = "groundwatch.traces"
VERDICTS = "groundwatch.verdicts"
DEAD_LETTERS = "groundwatch.dead_letters"
JUDGE_DURATION = "groundwatch.judge.duration"
ESCALATIONS = "groundwatch.escalations"
ESCALATIONS_WAITING = "groundwatch.escalations.waiting"
POOL_CALLS = "groundwatch.pool.calls"
POOL_TOKENS = "groundwatch.pool.tokens"
POOL_COST = "groundwatch.pool.cost"
POOL_CONCURRENCY = "groundwatch.pool.concurrency"
POOL_CIRCUIT = "groundwatch.pool.circuit_open"
QUEUE_LAG = "groundwatch.queue.lag"
ACCOUNTING = "groundwatch.accounting"
INTAKE = "groundwatch.intake"
INTAKE_RETRIES = "groundwatch.intake.retries"
SPOOL_SIZE = "groundwatch.spool.size"
SPOOL_RECORDS = "groundwatch.spool.records"
HALLUCINATION_RATE = "groundwatch.hallucination.rate"
HALLUCINATION_RATE_LOW = "groundwatch.hallucination.rate.low"
HALLUCINATION_RATE_HIGH = "groundwatch.hallucination.rate.high"
COVERAGE = "groundwatch.coverage"
ESCALATION_SHARE = "groundwatch.escalation.share"
DRIFT_EVIDENCE = "groundwatch.drift.evidence"
DRIFT_THRESHOLD = "groundwatch.drift.threshold"
DRIFT_LATE_VERDICTS = "groundwatch.drift.late_verdicts"
ALERTS = "groundwatch.alerts"
DELIVERIES = "groundwatch.alert.deliveries"
