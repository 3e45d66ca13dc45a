"""The metrics, as typed methods: no caller writes a name or an attribute by hand."""

from collections.abc import Mapping

from opentelemetry.metrics import Meter

from monitor.domain.alert import Alert
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.judgement import CouldNotJudge, Tier
from monitor.domain.rate import Rate
from monitor.domain.trace import Segment
from monitor.domain.verdict import Action, Assessment
from monitor.telemetry import names
from monitor.telemetry.segments import MAX_SEGMENTS, CountedSegments, SegmentGauge

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Instruments:
    """groundwatch's metrics on one meter. Thread-safe.

    Attribute values are bounded: enumerations, our own topics, and segments up to a limit: the first ones that this
    process meets in counters, those spoken of lately in gauges. Identifiers of traces, alerts and judges never become
    attributes of a metric.
    """

    def __init__(self, meter: Meter, *, max_segments: int = MAX_SEGMENTS) -> None:
        self._segments = CountedSegments(max_segments)
        counter, gauge = meter.create_counter, meter.create_gauge
        self._traces = counter(names.TRACES, "{trace}", "Traces by what became of them.")
        self._verdicts = counter(names.VERDICTS, "{verdict}", "First verdicts by label.")
        self._dead_letters = counter(names.DEAD_LETTERS, "{record}", "Records that could not be taken in.")
        self._escalations = counter(names.ESCALATIONS, "{trace}", "Traces sent to the pool, and what became of them.")
        self._alerts = counter(names.ALERTS, "{alert}", "Alerts raised.")
        self._deliveries = counter(names.DELIVERIES, "{attempt}", "Attempts to deliver an alert.")
        self._late = counter(names.DRIFT_LATE_VERDICTS, "{verdict}", "Verdicts too late to be watched for drift.")
        self._duration = meter.create_histogram(
            names.JUDGE_DURATION, "s", "Wall time of one judgement.", explicit_bucket_boundaries_advisory=_SECONDS
        )

        def of_segments(name: str, description: str) -> SegmentGauge:
            return SegmentGauge(meter, name, "1", description, max_segments=max_segments)

        self._rate = of_segments(names.HALLUCINATION_RATE, "Hallucinated share of the answers.")
        self._rate_low = of_segments(names.HALLUCINATION_RATE_LOW, "Lower end of the rate's 95 % interval.")
        self._rate_high = of_segments(names.HALLUCINATION_RATE_HIGH, "Upper end of the rate's 95 % interval.")
        self._coverage = of_segments(names.COVERAGE, "Share of the traces that have a verdict.")
        self._escalated = of_segments(names.ESCALATION_SHARE, "Share of the traces that were sent to the pool.")
        self._evidence = of_segments(names.DRIFT_EVIDENCE, "Natural logarithm of the drift detector's value.")
        self._threshold = of_segments(names.DRIFT_THRESHOLD, "Evidence at which an alarm is raised.")
        self._lag = gauge(names.QUEUE_LAG, "{record}", "Records of a topic not yet worked on.")
        self._waiting = gauge(names.ESCALATIONS_WAITING, "{trace}", "Traces that wait for the pool.")
        self._calls = counter(names.POOL_CALLS, "{call}", "Calls to the pool's servers by what became of them.")
        self._tokens = counter(names.POOL_TOKENS, "{token}", "Tokens of answered calls to the pool.")
        self._cost = counter(names.POOL_COST, "USD", "What answered calls to the pool cost, by the price table.")
        self._permits = gauge(names.POOL_CONCURRENCY, "{call}", "Calls that a server may have under way.")
        self._circuit = gauge(names.POOL_CIRCUIT, "1", "Whether a server's circuit is open: 1 or 0.")
        self._intake = counter(names.INTAKE, "{trace}", "Traces at the sidecar by what became of them.")
        self._feedback = counter(names.FEEDBACK, "{feedback}", "Feedback by what became of it.")
        self._redactions = counter(names.REDACTIONS, "{finding}", "Texts that redaction replaced.")
        self._denied = counter(names.ACCESS_REFUSED, "{request}", "Callers whom the sidecar did not let in.")
        self._intake_retries = counter(
            names.INTAKE_RETRIES, "{attempt}", "Times that the sidecar began anew with Kafka."
        )
        self._tee = counter(names.TEE, "{export}", "Exports for the sidecar's tee by what became of them.")
        self._tee_size = gauge(names.TEE_SIZE, "By", "Bytes of exports that wait for the tee's endpoint.")
        self._accounting = gauge(names.ACCOUNTING, "{record}", "Records of the traces topic by what became of them.")

    def assessed(self, assessment: Assessment) -> None:
        """One trace was judged (or could not be) by the local cascade."""
        outcome = assessment.outcome
        segment = self._segments.of(assessment.trace.segment)
        if isinstance(outcome, CouldNotJudge):
            # An escalated trace has no verdict *yet*: the pool's word is still to come.
            pending = assessment.decision.action is Action.ESCALATE
            became = "pending" if pending else "unjudged"
            self._traces.add(1, {**segment, names.OUTCOME: became, names.REASON: outcome.reason.value})
        else:
            self._traces.add(1, {**segment, names.OUTCOME: "verdict"})
            self._verdicts.add(1, {**segment, names.LABEL: outcome.label.value})
        for judgement in assessment.judgements:
            self.judged(judgement.judge.tier, judgement.latency_seconds, spoke=judgement.probability is not None)

    def judged(self, tier: Tier, seconds: float, *, spoke: bool) -> None:
        """One judge took this long; `spoke` is false where its attempt ended without a probability."""
        outcome = "judged" if spoke else "unjudged"
        self._duration.record(seconds, {names.TIER: tier.value, names.OUTCOME: outcome})

    def dead_letter(self, reason: DeadLetterReason) -> None:
        """One record went to the dead letters."""
        self._dead_letters.add(1, {names.REASON: reason.value})

    def escalated(self, outcome: str, count: int = 1) -> None:
        """Traces were queued for the pool (`queued`), came back (`done`), or were given up (`given_up`)."""
        self._escalations.add(count, {names.OUTCOME: outcome})

    def escalations_waiting(self, count: int) -> None:
        """So many traces wait for the pool now."""
        self._waiting.set(count)

    def pool_called(self, endpoint: str, attempt: str, outcome: str) -> None:
        """One call to a server of the pool: `first`, `retry` or `hedge`; `answered`, `busy`, `timeout`, …."""
        self._calls.add(1, {names.ENDPOINT: endpoint, names.ATTEMPT: attempt, names.OUTCOME: outcome})

    def pool_spent(self, *, prompt: int, cached: int, completion: int, usd: float) -> None:
        """An answered call took so many tokens, `cached` among `prompt`. Spend by tenant is in the ledger only."""
        for kind, count in (("prompt", prompt - cached), ("cached_prompt", cached), ("completion", completion)):
            if count:
                self._tokens.add(count, {names.KIND: kind})
        if usd:
            self._cost.add(usd)

    def pool_server(self, endpoint: str, *, permits: int, circuit_open: bool) -> None:
        """How a server of the pool stands after a call."""
        self._permits.set(permits, {names.ENDPOINT: endpoint})
        self._circuit.set(int(circuit_open), {names.ENDPOINT: endpoint})

    def accounting(self, counts: Mapping[str, int]) -> None:
        """The ledger's accounting as of now: `accepted` is the sum of the others but `pending` and `lost`."""
        for outcome, count in counts.items():
            self._accounting.set(count, {names.OUTCOME: outcome})

    def queue_lag(self, topic: str, records: int) -> None:
        """So many records of a topic are not worked on yet."""
        self._lag.set(records, {names.TOPIC: topic})

    def intake(self, outcome: str, count: int = 1, *, reason: str | None = None) -> None:
        """Traces at the sidecar: `accepted`, `refused` or `dropped` for a reason, `forwarded` to Kafka, `set_aside`."""
        self._intake.add(count, {names.OUTCOME: outcome, **({names.REASON: reason} if reason else {})})

    def redacted(self, rule: str, count: int) -> None:
        """A redaction rule, of those in the settings, has found something so often."""
        self._redactions.add(count, {names.RULE: rule})

    def denied(self, cause: str) -> None:
        """The sidecar let one caller not in: `missing`, `unknown`, `expired`, `not_yet_valid`, `other_tenant`."""
        self._denied.add(1, {names.REASON: cause})

    def intake_retried(self) -> None:
        """Kafka failed, and the sidecar begins anew from the last confirmed record."""
        self._intake_retries.add(1)

    def feedback(self, outcome: str, count: int = 1, *, reason: str | None = None) -> None:
        """Feedback at the sidecar, as in `intake`; in the ledger `recorded`, or `repeated` where it was known."""
        self._feedback.add(count, {names.OUTCOME: outcome, **({names.REASON: reason} if reason else {})})

    def tee(self, outcome: str, count: int = 1, *, reason: str | None = None) -> None:
        """Exports for the tee: `forwarded`, `retried` (attempts that will be repeated), or `dropped` for a reason."""
        self._tee.add(count, {names.OUTCOME: outcome, **({names.REASON: reason} if reason else {})})

    def tee_waiting(self, size_bytes: int) -> None:
        """So much waits for the tee's endpoint now."""
        self._tee_size.set(size_bytes)

    def rates(self, segment: Segment, known: Mapping[str, Rate]) -> None:
        """A segment's hallucination rates over the window, by method: `raw`, `corrected`, `powered`.

        One that cannot be had is left out, and its series ends.
        """
        self._rate.set(segment, {method: rate.value for method, rate in known.items()}, by=names.METHOD)
        self._rate_low.set(segment, {method: rate.low for method, rate in known.items()}, by=names.METHOD)
        self._rate_high.set(segment, {method: rate.high for method, rate in known.items()}, by=names.METHOD)

    def coverage(self, segment: Segment, *, judged: float, escalated: float) -> None:
        """Shares of a segment's traces in the window: those that have a verdict, those that were sent to the pool."""
        self._coverage.set(segment, judged)
        self._escalated.set(segment, escalated)

    def evidence(self, segment: Segment, log_value: float, *, threshold: float) -> None:
        """The natural logarithm of a segment's e-detector, and the one at which it raises an alarm."""
        self._evidence.set(segment, log_value)
        self._threshold.set(segment, threshold)

    def late_verdicts(self, segment: Segment, count: int) -> None:
        """Verdicts arrived after their minute had been folded into the detector."""
        self._late.add(count, self._segments.of(segment))

    def alert_raised(self, alert: Alert) -> None:
        """An alert was raised, and is durable."""
        self._alerts.add(1, {**self._segments.of(alert.segment), names.DIRECTION: alert.alarm.direction.value})

    def delivery(self, channel: str, outcome: str) -> None:
        """One attempt to deliver an alert by `kafka` or `webhook`: `delivered`, `failed` or `dead`."""
        self._deliveries.add(1, {names.CHANNEL: channel, names.OUTCOME: outcome})
