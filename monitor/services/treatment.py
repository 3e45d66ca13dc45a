"""What a sidecar does to everything that it accepts, from settings: the same in both of its processes."""

import re

from monitor.config import RedactionSettings, Settings
from monitor.ingest.counters import IngestCounters
from monitor.ingest.redaction import Redaction
from monitor.ingest.sampling import Sampling
from monitor.ingest.treatment import Treatment, Treatments
from monitor.redaction.builtin import BUILT_IN
from monitor.redaction.pattern import Pattern
from monitor.redaction.redactor import Redactor, hashed, mask
from monitor.routing.keeping import KeepingRule


def treatment(settings: Settings, counters: IngestCounters) -> Treatment:
    """Redaction, then sampling; told to `counters`."""
    rules = [KeepingRule(**rule.model_dump()) for rule in settings.sampling.rules]
    sampling = Sampling(settings.sampling.probability, rules, counters=counters)
    if not (settings.redaction.patterns or settings.redaction.rules):
        return sampling
    redaction = Redaction(redactor(settings.redaction), key=_key(settings.redaction), counters=counters)
    return Treatments(redaction, sampling)


def redactor(settings: RedactionSettings) -> Redactor:
    """Rules of one's own, then those that are built in."""
    own = [Pattern(name=rule.name, expression=re.compile(rule.regex), in_numbers=True) for rule in settings.rules]
    built_in = [pattern for name in settings.patterns for pattern in BUILT_IN[name]]
    return Redactor(own + built_in, hashed(_key(settings)) if settings.action == "hash" else mask)


def _key(settings: RedactionSettings) -> bytes:
    return settings.hash_key.get_secret_value().encode() if settings.hash_key else b""
