"""How far the judges have come with what replays sent: by where its records lie, and what each version reads next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from monitor.config import KafkaSettings
from monitor.storage.replays import Replay
from monitor.streaming.lag import PartitionLag, committed_offsets
from monitor.streaming.topics import replays_group


@dataclass(frozen=True, kw_only=True, slots=True)
class Positions:
    """What each version's workers will read next of the topic of replays, by partition.

    Attributes:
        topic: of replays.
        groups: consumer groups by judge version.
        committed: by judge version and partition; nothing where its workers have not come yet.
    """

    topic: str
    groups: Mapping[str, str]
    committed: Mapping[str, Mapping[int, int]]

    def waiting(self, replay: Replay) -> int:
        """Records of a replay that its version's workers have still to read; 0 for one of dead letters.

        At most: what other replays sent in between counts, too.
        """
        if replay.judge_version is None:
            return 0
        committed = self.committed.get(replay.judge_version, {})
        return sum(
            max(0, end - max(first, committed.get(int(partition), 0)))
            for partition, (first, end) in (replay.places or {}).items()
        )


def positions(kafka: KafkaSettings, replays: Sequence[Replay]) -> Positions:
    """Where the workers of these replays' versions stand.

    Raises:
        StreamUnavailable: Kafka cannot be reached.
    """
    places: dict[str, set[tuple[str, int]]] = {}
    for replay in replays:
        if replay.judge_version is not None and replay.places:
            mine = places.setdefault(replay.judge_version, set())
            mine.update((kafka.replays_topic, int(partition)) for partition in replay.places)
    groups = {version: replays_group(kafka, version) for version in places}
    wanted = {groups[version]: sorted(mine) for version, mine in places.items()}
    found = committed_offsets(kafka, wanted) if wanted else {}
    return Positions(
        topic=kafka.replays_topic,
        groups=groups,
        committed={
            version: {partition: offset for (_, partition), offset in found[group].items()}
            for version, group in groups.items()
        },
    )


def lags(stands: Positions, replays: Sequence[Replay]) -> Iterator[tuple[str, PartitionLag]]:
    """Consumer groups that have records of these replays still to read, with each partition of theirs."""
    for version, group in stands.groups.items():
        ours = [replay for replay in replays if replay.judge_version == version]
        if not any(map(stands.waiting, ours)):
            continue
        ends: dict[int, list[int]] = {}
        for replay in ours:
            for name, place in (replay.places or {}).items():
                ends.setdefault(int(name), []).extend(place)
        for partition, places in sorted(ends.items()):
            # Before the first of its records a version has nothing to read.
            at = max(min(places), stands.committed[version].get(partition, 0))
            yield group, PartitionLag(topic=stands.topic, partition=partition, end=max(places), committed=at)
