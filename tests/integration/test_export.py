"""`groundwatch export` on a real ledger: the files say what the ledger says, whatever comes between."""

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
import typer
from click.testing import Result
from pyarrow import parquet
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, select, text
from typer.testing import CliRunner

from monitor.cli import export
from monitor.config import PostgresSettings
from monitor.domain.errors import ExportUnavailable, InvalidInput, LedgerUnavailable
from monitor.domain.trace import Document
from monitor.domain.verdict import Assessment
from monitor.lake.datasets import DATASETS, VERSION
from monitor.lake.directory import MANIFEST, open_directory
from monitor.lake.manifest import Scope
from monitor.services.export_check import CheckedHour, Standing, check_export
from monitor.services.exporting import Exported, Exporter
from monitor.storage.engine import create_ledger_engine, transaction
from monitor.storage.ledger import Ledger
from monitor.storage.retention import Keeping, expire
from monitor.storage.revision import revise
from monitor.storage.tables import judgements, judges, rollups, traces, verdicts
from tests.examples.assessments import NOON, POOL, assessment, judgement, verdict

HOUR = 3600
DAY = 24 * HOUR
KEY = ("tenant", "trace_id", "evaluator", "judge_version")
GUIDE = Path(__file__).parents[2].joinpath("docs", "export.md").read_text(encoding="utf-8")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def app(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = typer.Typer()
    app.callback()(lambda: None)
    export.register(app)
    return app


def invoke(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", *arguments])


def run(engine: Engine, lake: Path, **scope: Any) -> Exported:
    with open_directory(lake) as directory:
        return Exporter(engine, directory, Scope(**scope), clock=lambda: 0.0).run()


def check(engine: Engine, lake: Path) -> list[CheckedHour]:
    with open_directory(lake) as directory:
        return list(check_export(engine, directory))


def standings(engine: Engine, lake: Path) -> set[Standing]:
    return {checked.standing for checked in check(engine, lake)}


def files(lake: Path) -> dict[str, int]:
    """Every file that a reader sees, with what tells it from one that took its place."""
    return {str(path.relative_to(lake)): path.stat().st_ino for path in lake.glob("*/day=*/*.parquet")}


def contents(lake: Path, name: str) -> list[dict[str, Any]]:
    """A dataset's rows as a glob of its files gives them, in the order of its key."""
    found = sorted(lake.glob(f"{name}/*/*.parquet"))
    rows = [row for path in found for row in parquet.read_table(path, partitioning=None).to_pylist()]
    return sorted(rows, key=lambda row: [str(row[part]) for part in DATASETS[name].key])


def everything(lake: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: contents(lake, name) for name in DATASETS}


def in_ledger(engine: Engine, query: Any, key: tuple[str, ...]) -> list[dict[str, Any]]:
    with transaction(engine) as connection:
        # Numbers and places by which the ledger finds its rows are its own.
        own = {"verdict_id", "segment_id", "topic", "partition", "offset", "escalated", "changed"}
        own -= {"escalated"} if "rollups" in str(query) else set()
        rows = [dict(row) for row in connection.execute(query).mappings()]
        rows = [{name: value for name, value in row.items() if name not in own} for row in rows]
    return sorted(rows, key=lambda row: [str(row[part]) for part in key])


def revised(engine: Engine, said: Assessment, probability: float) -> None:
    """The pool has its word."""
    with transaction(engine) as connection:
        say(connection, said, probability)


def say(connection: Connection, said: Assessment, probability: float) -> None:
    word = judgement(POOL, probability=probability)
    outcome = verdict(probability, by=POOL)
    revise(connection, said, judgement=word, outcome=outcome, at=NOON + timedelta(days=9))


def hostile() -> Assessment:
    bad = 'a\x00b\ud800c "quoted", \\N \\. \r\n\N{LINE SEPARATOR}\N{LEFT-TO-RIGHT OVERRIDE}\N{GRINNING FACE}'
    opinion = replace(judgement().result, reasoning=f"{bad}{'long ' * 200_000}", unsupported=())
    return replace(
        assessment(
            1,
            trace_id='he said ","\n',
            probability=0.1 + 0.2,
            question="",
            answer=bad,
            documents=(
                Document(id="d", text=bad, score=1e20, metadata={bad: [1, None, {"deep": bad}]}),
                Document(id="", text=""),
            ),
            tags={"k\x00": bad, "empty": "", "release": "7"},
            generator_model="",
            seconds_past_noon=0.000001,
        ),
        judgements=(replace(judgement(), result=opinion, probability=1e-300),),
        outcome=replace(verdict(0.1 + 0.2), reasoning=bad, unsupported=()),
    )


def of_year(year: int, offset: int) -> Assessment:
    """From a service whose clock was never set, or of years ago."""
    said = assessment(offset)
    return replace(said, trace=replace(said.trace, event_time=datetime(year, 12, 31, 23, 59, tzinfo=UTC)))


def several(count: int = 12, *, first: int = 0, apart: int = 6 * HOUR) -> list[Assessment]:
    """Traces over days, one every `apart` seconds; some escalated, some unjudged."""
    return [
        assessment(
            first + number,
            probability=None if number % 5 == 4 else (number % 10) / 10,
            escalated=number % 3 == 0,
            seconds_past_noon=number * apart,
        )
        for number in range(count)
    ]


def test_every_column_of_the_ledger_comes_through(engine: Engine, ledger: Ledger, lake: Path) -> None:
    escalated = assessment(3, escalated=True, probability=0.25, sampling_probability=0.1)
    strange = [of_year(1, 5), of_year(2019, 6)]
    ledger.record(
        [hostile(), assessment(2, probability=None), escalated, assessment(4, seconds_past_noon=DAY), *strange]
    )
    revised(engine, escalated, 0.9)
    done = run(engine, lake, texts=True)
    assert (done.rows, done.kept) == ({"verdicts": 6, "judgements": 12, "rollups": 4, "texts": 6}, 0)

    assert contents(lake, "verdicts") == in_ledger(engine, select(verdicts), KEY)
    of_verdict = verdicts.c["service", "environment"]
    of_judge = judges.c["tier", "model", "model_digest", "quantisation", "prompt_digest"]
    same = [judgements.c[name] == verdicts.c[name] for name in KEY]
    said = (
        select(judgements, *of_verdict, judges.c.name.label("judge_name"), *of_judge)
        .join(verdicts, same[0] & same[1] & same[2] & same[3])
        .join(judges, judges.c.judge == judgements.c.judge)
    )
    assert contents(lake, "judgements") == in_ledger(engine, said, (*KEY, "sequence"))
    texts = contents(lake, "texts")
    for row in texts:
        row["tags"] = dict(row["tags"])
        for document in row["documents"]:
            document["metadata"] = json.loads(document["metadata"])
    assert texts == in_ledger(engine, select(traces), ("tenant", "trace_id"))


def test_rollups_come_through_as_counts_and_rates(engine: Engine, ledger: Ledger, lake: Path) -> None:
    ledger.record(several())
    run(engine, lake)
    named = {"total": "verdicts", "first_total": "first_verdicts"}
    expected = []
    for kept in in_ledger(engine, select(rollups), DATASETS["rollups"].key):
        row = {named.get(name, name): value for name, value in kept.items()}
        row["rate"] = row["hallucinated"] / row["verdicts"] if row["verdicts"] else None
        row["estimated_traces"] = float(row["traces"] + row["left_out"])
        row["sum_probability"] = float(row["sum_probability"])
        expected.append({name: row[name] for name in DATASETS["rollups"].schema.names})
    assert contents(lake, "rollups") == expected
    assert {row["rate"] for row in expected} == {0.0, 1.0, None}


def test_files_say_what_they_are(engine: Engine, ledger: Ledger, lake: Path) -> None:
    ledger.record([assessment(0)])
    run(engine, lake, texts=True)
    for name, dataset in DATASETS.items():
        file = lake / name / "day=2026-03-01" / "hour-12.parquet"
        said = parquet.ParquetFile(file)
        assert said.schema_arrow.equals(dataset.schema), name
        kept = said.schema_arrow.metadata
        assert (kept[b"groundwatch.dataset"], kept[b"groundwatch.version"]) == (name.encode(), str(VERSION).encode())
        assert said.metadata.row_group(0).column(0).compression == "ZSTD"
        for column in dataset.schema.names:
            section = GUIDE.split(f"### `{name}`")[1].split("\n#")[0]
            assert f"`{column}`" in section, f"{name}.{column}"


def test_a_run_writes_the_hours_that_changed_and_comes_to_a_full_export(
    engine: Engine, ledger: Ledger, lake: Path, tmp_path: Path
) -> None:
    said = several()
    ledger.record(said)
    assert run(engine, lake, texts=True).hours == 12
    before = files(lake)
    assert run(engine, lake, texts=True) == Exported()
    assert files(lake) == before
    # One comes late, one is revised, one is new.
    ledger.record([assessment(50, seconds_past_noon=1), assessment(51, seconds_past_noon=9 * DAY)])
    revised(engine, said[3], 0.9)
    assert standings(engine, lake) == {Standing.EQUAL, Standing.BEHIND}
    done = run(engine, lake, texts=True)
    assert (done.hours, done.rows["verdicts"]) == (3, 4)
    after = files(lake)
    touched = {"day=2026-03-01/hour-12", "day=2026-03-02/hour-06", "day=2026-03-10/hour-12"}
    changed = {name for name, inode in after.items() if before.get(name) != inode}
    assert changed == {f"{name}/{hour}.parquet" for name in DATASETS for hour in touched}
    run(engine, tmp_path / "whole", texts=True)
    assert everything(lake) == everything(tmp_path / "whole")
    assert standings(engine, lake) == {Standing.EQUAL}


def test_a_transaction_that_commits_after_a_later_one_is_not_missed(engine: Engine, ledger: Ledger, lake: Path) -> None:
    slow = assessment(0, escalated=True)
    ledger.record([slow, assessment(1, seconds_past_noon=HOUR)])
    run(engine, lake)
    with transaction(engine) as connection:
        say(connection, slow, 0.9)
        ledger.record([assessment(2, seconds_past_noon=HOUR)])
        assert run(engine, lake).hours == 1
        assert contents(lake, "verdicts")[0]["label"] == "faithful"
    assert run(engine, lake).hours >= 1
    assert contents(lake, "verdicts")[0]["label"] == "hallucinated"
    assert standings(engine, lake) == {Standing.EQUAL}


def test_what_the_ledger_has_dropped_stays_in_the_files(engine: Engine, ledger: Ledger, lake: Path) -> None:
    ledger.record([assessment(number) for number in range(5)] + several(3, first=10, apart=DAY)[1:])
    run(engine, lake, texts=True)
    before = everything(lake)
    with transaction(engine) as connection:
        for table in ("verdict_rows", "judgement_rows", "payloads"):
            connection.execute(text(f"delete from {table}"))
        connection.execute(text("delete from rollups where minute > :noon"), {"noon": NOON})
    assert run(engine, lake, texts=True) == Exported()
    ledger.record([assessment(70, seconds_past_noon=1)])
    done = run(engine, lake, texts=True)
    assert (done.hours, done.rows["verdicts"], done.kept) == (1, 6, 5 + 10 + 5)
    after = everything(lake)
    for name in ("verdicts", "judgements", "texts"):
        assert [row for row in after[name] if row["trace_id"] != "t-0-70"] == before[name]
    assert [checked.standing for checked in check(engine, lake)] == [Standing.EQUAL, Standing.KEPT, Standing.KEPT]


def expired(engine: Engine, *, days: int, **tenants: int) -> None:
    """Retention as production has it: rollups stay."""
    limits = Keeping(days=days, tenants=tenants)
    expire(engine, {"verdicts": limits, "payloads": limits}, now=NOON + timedelta(days=10))


def test_what_expired_before_it_was_exported_is_no_difference(engine: Engine, ledger: Ledger, lake: Path) -> None:
    ledger.record([assessment(n, seconds_past_noon=n * DAY, tenant=("city", "rival")[n % 2]) for n in range(10)])
    expired(engine, days=5, rival=30)
    run(engine, lake)
    # Days 0, 2 and 4 are city's, and gone.
    stands = [Standing.EXPIRED, Standing.EQUAL] * 2 + [Standing.EXPIRED] + [Standing.EQUAL] * 5
    assert [checked.standing for checked in check(engine, lake)] == stands
    # What expires once it is in the files stays there.
    expired(engine, days=1, rival=30)
    assert [checked.standing for checked in check(engine, lake)] == stands
    with transaction(engine) as connection:
        connection.execute(text("delete from verdict_rows"))
    other = lake.with_name("other")
    run(engine, other)
    unexplained = [checked.hour.day - 1 for checked in check(engine, other) if checked.standing is Standing.DIFFERENT]
    assert unexplained == [1, 3, 5, 7, 9], "retention did not take the rival's"


def test_what_expired_before_it_was_exported_is_told(
    engine: Engine, ledger: Ledger, lake: Path, app: typer.Typer
) -> None:
    ledger.record([assessment(n, seconds_past_noon=n * DAY) for n in range(10)])
    expire(engine, {"verdicts": Keeping(days=7), "payloads": Keeping(days=4)}, now=NOON + timedelta(days=10))
    result = invoke(app, "--to", str(lake), "--texts", "--json")
    hours = [f"2026-03-{day:02}T12:00:00+00:00" for day in range(1, 7)]
    assert json.loads(result.stdout)["too_late"] == {"verdicts": hours[:3], "texts": hours[3:]}
    assert "3 hours from 2026-03-01T12 to 2026-03-03T12 UTC have counts, but not all their verdicts" in result.stderr
    assert "3 hours from 2026-03-04T12 to 2026-03-06T12 UTC have counts, but not all their texts" in result.stderr
    # In time: what expires later is kept, and nothing to warn of, though its hours are written again.
    expire(engine, {"verdicts": Keeping(days=1), "payloads": Keeping(days=1)}, now=NOON + timedelta(days=10))
    (lake / "verdicts" / "day=2026-03-09" / "hour-12.parquet").unlink()
    ledger.record([assessment(70, seconds_past_noon=7 * DAY + 1)])
    again = invoke(app, "--to", str(lake), "--texts", "--json")
    assert json.loads(again.stdout)["kept"] == 1 + 2 + 1 + 2 + 1
    assert json.loads(again.stdout)["too_late"] == {"verdicts": ["2026-03-09T12:00:00+00:00"]}


@pytest.mark.parametrize(("name", "column"), [("verdicts", "replay_id"), ("rollups", "replayed")])
def test_rows_of_a_file_that_lacks_a_newer_column_are_kept_without_it(
    engine: Engine, ledger: Ledger, lake: Path, name: str, column: str
) -> None:
    ledger.record([assessment(0), assessment(1, service="web")])
    run(engine, lake)
    file = lake / name / "day=2026-03-01" / "hour-12.parquet"
    parquet.write_table(parquet.read_table(file, partitioning=None).drop_columns([column]), file)
    with transaction(engine) as connection:
        connection.execute(text("delete from verdict_rows"))
        connection.execute(text("delete from rollups"))
    ledger.record([assessment(2, service="third")])
    assert run(engine, lake).kept >= 2
    assert {row["service"]: row[column] for row in contents(lake, name)} == {
        **dict.fromkeys(("help-desk", "web")),
        "third": 0 if column == "replayed" else None,
    }


def test_verdicts_of_replays_are_told_apart(engine: Engine, ledger: Ledger, lake: Path) -> None:
    first = assessment(0)
    ledger.record([first])
    again = replace(
        assessment(1, trace_id=first.trace.trace_id),
        judge_version="later",
        origin=replace(first.origin, offset=9, replay_id=7),
    )
    ledger.record([again])
    run(engine, lake)
    assert [row["replay_id"] for row in contents(lake, "verdicts")] == [None, 7]
    assert [(row["traces"], row["replayed"]) for row in contents(lake, "rollups")] == [(1, 0), (1, 1)]


def test_a_damaged_file_whose_hour_is_written_again_is_named(engine: Engine, ledger: Ledger, lake: Path) -> None:
    ledger.record([assessment(0)])
    run(engine, lake)
    file = lake / "judgements" / "day=2026-03-01" / "hour-12.parquet"
    whole = file.read_bytes()
    ledger.record([assessment(1)])
    # The end; and a page in the midst, of which the end says nothing.
    for damaged in (whole[:-9], whole[:40] + bytes(80) + whole[120:]):
        file.write_bytes(damaged)
        with pytest.raises(ExportUnavailable, match=rf"^{file}: is damaged"):
            run(engine, lake)
    file.write_bytes(whole)
    assert run(engine, lake).hours == 1


@pytest.mark.parametrize("name", list(DATASETS))
@pytest.mark.parametrize("damage", ["cut", "lost", "another's"])
def test_a_spoiled_file_of_any_dataset_is_named(  # noqa: PLR0917 - fixtures
    engine: Engine, ledger: Ledger, lake: Path, app: typer.Typer, name: str, damage: str
) -> None:
    ledger.record([*several(3), assessment(9)])
    run(engine, lake, texts=True)
    file = lake / name / "day=2026-03-01" / "hour-12.parquet"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "lost":
        file.unlink()
    else:
        other = parquet.read_table(file, partitioning=None)
        parquet.write_table(pyarrow.concat_tables([other, other]), file)
    result = invoke(app, "--to", str(lake), "--verify", "--json")
    assert result.exit_code == 1
    assert [hour["spoiled"] for hour in json.loads(result.stdout)["hours"]] == [
        [f"{name}/day=2026-03-01/hour-12.parquet"]
    ]
    assert f"{name}/day=2026-03-01/hour-12.parquet" in result.stderr


# Dies of SIGKILL before the nth time that a file is made durable or takes another's place.
DOOMED = """
import os, pathlib, signal, sys
from monitor.cli import export
from monitor.config import PostgresSettings
import typer

left = int(sys.argv[1])

def doomed(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

os.fsync = doomed(os.fsync)
os.replace = doomed(os.replace)
pathlib.Path.replace = doomed(pathlib.Path.replace)
app = typer.Typer()
export.register(app)
app(sys.argv[2:])
"""


@pytest.mark.parametrize("step", [3, 9, 10, 11, 16, 31, 48])
def test_a_kill_leaves_whole_hours_and_the_next_run_ends_the_work(  # noqa: PLR0917 - fixtures
    engine: Engine, ledger: Ledger, lake: Path, tmp_path: Path, app: typer.Typer, step: int
) -> None:
    ledger.record([assessment(0), assessment(1, seconds_past_noon=HOUR), assessment(2, seconds_past_noon=DAY)])
    assert invoke(app, "--to", str(lake), "--texts").exit_code == 0
    old = everything(lake)
    ledger.record(
        [assessment(number, seconds_past_noon=past) for number, past in ((10, 1), (11, HOUR), (12, DAY), (13, 2 * DAY))]
    )
    killed = subprocess.run(
        [sys.executable, "-c", DOOMED, str(step), "--to", str(lake), "--texts"], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run(engine, tmp_path / "whole", texts=True)
    new = everything(tmp_path / "whole")
    # What a reader sees by now: of each dataset, each hour as it was or as it is, once.
    for name, rows in everything(lake).items():
        for hour in {row.get("event_time", row.get("minute")).replace(minute=0, second=0) for row in new[name]}:
            seen, was, shall = (
                [row for row in some if row.get("event_time", row.get("minute")).replace(minute=0, second=0) == hour]
                for some in (rows, old[name], new[name])
            )
            assert seen in (was, shall)
    result = invoke(app, "--to", str(lake), "--texts")
    assert result.exit_code == 0, result.stderr
    assert everything(lake) == new
    assert standings(engine, lake) == {Standing.EQUAL}
    assert list(lake.rglob(".*")) == []


def _another_ledger(manifest: dict[str, Any]) -> None:
    manifest["source"]["system"] = "1"


def _made_anew(manifest: dict[str, Any]) -> None:
    manifest["source"]["oid"] = 1


def _ahead(manifest: dict[str, Any]) -> None:
    manifest["watermark"] = 2**60


def _of_a_later_release(manifest: dict[str, Any]) -> None:
    manifest["format"] = "groundwatch.export/9"


def _strange_hour(manifest: dict[str, Any]) -> None:
    manifest["hours"]["2026-02-30T01"] = {"watermark": 1, "rows": {}}


def _file_elsewhere(manifest: dict[str, Any]) -> None:
    manifest["publishing"] = ["../../etc/passwd"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_another_ledger, "holds the history of another ledger"),
        (_made_anew, "was made anew"),
        (_ahead, "is ahead of the ledger"),
        (_of_a_later_release, "not a manifest that this release reads: format"),
        (_strange_hour, "not a manifest that this release reads: hours.2026-02-30T01"),
        (_file_elsewhere, "not a file of an export"),
    ],
)
def test_a_manifest_that_is_not_this_ledgers_is_refused(
    engine: Engine, ledger: Ledger, lake: Path, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    ledger.record([assessment(0)])
    run(engine, lake)
    before = files(lake)
    manifest = json.loads((lake / MANIFEST).read_text())
    spoil(manifest)
    (lake / MANIFEST).write_text(json.dumps(manifest))
    ledger.record([assessment(1)])
    with pytest.raises(ExportUnavailable, match=message):
        run(engine, lake)
    assert files(lake) == before


def test_another_database_of_the_same_server_is_another_ledger(  # noqa: PLR0917 - fixtures
    engine: Engine,
    ledger: Ledger,
    lake: Path,
    empty_database: Any,
    migrated_template: str,
    app: typer.Typer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(engine, lake)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", empty_database(template=migrated_template))
    result = invoke(app, "--to", str(lake))
    assert isinstance(result.exception, ExportUnavailable)
    assert "holds the history of another ledger" in str(result.exception)


def test_a_ledger_that_has_moved_is_gone_on_with_once_it_is_adopted(
    engine: Engine, ledger: Ledger, lake: Path, app: typer.Typer
) -> None:
    ledger.record(several(4))
    run(engine, lake)
    manifest = json.loads((lake / MANIFEST).read_text())
    manifest["source"].update(system="1", oid=1, database="before", timeline=1)
    manifest["watermark"] = 2**60
    (lake / MANIFEST).write_text(json.dumps(manifest))
    with transaction(engine) as connection:
        # As a dump brings them: verdicts that have expired, and ids that this cluster will give out in years.
        connection.execute(text("delete from verdict_rows where event_time = :noon"), {"noon": NOON})
        connection.execute(text("update rollups set changed = '1000000000000'"))
    assert "give --adopt" in str(invoke(app, "--to", str(lake)).exception)
    result = invoke(app, "--to", str(lake), "--adopt", "--json")
    summary = json.loads(result.stdout)
    assert (summary["hours"], summary["rows"]["verdicts"], summary["kept"]) == (4, 4, 3)
    assert run(engine, lake).hours == 0
    assert standings(engine, lake) == {Standing.EQUAL}
    ledger.record([assessment(9)])
    assert run(engine, lake).hours == 1
    # Of the same ledger it is all anew.
    assert json.loads(invoke(app, "--to", str(lake), "--adopt", "--json").stdout)["hours"] == 4
    assert "one of the two" in str(invoke(app, "--to", str(lake), "--adopt", "--verify").exception)


def test_after_a_failover_every_hour_is_written_again(engine: Engine, ledger: Ledger, lake: Path) -> None:
    ledger.record(several(4))
    run(engine, lake)
    manifest = json.loads((lake / MANIFEST).read_text())
    timeline = manifest["source"]["timeline"]
    manifest["source"]["timeline"] = timeline - 1
    manifest["watermark"] = 2**60
    (lake / MANIFEST).write_text(json.dumps(manifest))
    assert run(engine, lake).hours == 4
    assert json.loads((lake / MANIFEST).read_text())["source"]["timeline"] == timeline
    assert run(engine, lake).hours == 0


@pytest.mark.parametrize(("tenants", "seen"), [(["city"], None), (["city", "rival"], None), (["*"], 1)])
def test_a_login_that_sees_some_tenants_exports_none(  # noqa: PLR0917 - fixtures
    engine: Engine, ledger: Ledger, lake: Path, postgres_url: str, tenants: list[str], seen: int | None
) -> None:
    ledger.record([assessment(0)])
    name = f"w_{secrets.token_hex(4)}"
    with transaction(engine) as connection:
        connection.exec_driver_sql(f"create role {name} login")
        connection.exec_driver_sql(f"grant groundwatch_writer to {name}")
        for tenant in tenants:
            connection.execute(text("insert into reader_tenants values (:name, :of)"), {"name": name, "of": tenant})
    own = create_ledger_engine(PostgresSettings(url=SecretStr(postgres_url.replace("postgres@", f"{name}@", 1))))
    try:
        if seen:
            assert run(own, lake).hours == seen
        else:
            for attempt in (run, check):
                with pytest.raises(LedgerUnavailable, match="sees the rows of some tenants only"):
                    attempt(own, lake)
                run(engine, lake)
    finally:
        own.dispose()
        with transaction(engine) as connection:
            connection.exec_driver_sql(f"drop owned by {name}")
            connection.exec_driver_sql(f"drop role {name}")


def test_two_exports_at_once_are_one_too_many(engine: Engine, lake: Path, app: typer.Typer) -> None:
    with open_directory(lake):
        for arguments in ((), ("--verify",)):
            result = invoke(app, "--to", str(lake), *arguments)
            assert "another export is at work in it" in str(result.exception)
    assert invoke(app, "--to", str(lake)).exit_code == 0


def test_a_directory_takes_one_choice_of_options(engine: Engine, ledger: Ledger, lake: Path) -> None:
    run(engine, lake, tenant="city")
    with pytest.raises(ExportUnavailable, match="was begun with --tenant city, this run has --texts"):
        run(engine, lake, texts=True)


def test_there_is_nothing_to_verify_before_an_export(engine: Engine, lake: Path, app: typer.Typer) -> None:
    assert isinstance(invoke(app, "--to", str(lake), "--verify").exception, InvalidInput)
    assert not lake.exists()
    with pytest.raises(ExportUnavailable, match="holds no export yet"):
        check(engine, lake)


def test_strange_files_are_not_taken_for_an_export(engine: Engine, lake: Path) -> None:
    (lake / "verdicts").mkdir(parents=True)
    (lake / "verdicts" / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(ExportUnavailable, match=r"mine.parquet: no manifest names it"):
        run(engine, lake)


def test_a_directory_that_cannot_be_is_a_clean_error(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportUnavailable, match="file"):
        run(engine, tmp_path / "file")


def test_only_a_tenants_and_only_since(engine: Engine, ledger: Ledger, lake: Path, app: typer.Typer) -> None:
    ledger.record(
        [*several(4), assessment(60, tenant="village"), assessment(61, tenant="village", seconds_past_noon=DAY)]
    )
    options = ("--to", str(lake), "--tenant", "village", "--since", "2026-03-02T12:30", "--json")
    result = invoke(app, *options)
    summary = json.loads(result.stdout)
    assert (summary["hours"], summary["rows"]) == (1, {"verdicts": 1, "judgements": 2, "rollups": 1})
    assert "2026-03-02  1 hours  1 verdicts" in result.stderr
    assert [row["trace_id"] for row in contents(lake, "verdicts")] == ["t-0-61"]
    assert json.loads(invoke(app, *options).stdout)["hours"] == 0
    verified = invoke(app, "--to", str(lake), "--verify", "--json")
    assert json.loads(verified.stdout) == {
        "equal": 1,
        "behind": 0,
        "kept": 0,
        "expired": 0,
        "different": 0,
        "hours": [],
    }
    strange = invoke(app, "--to", str(lake), "--since", "yesterday")
    assert isinstance(strange.exception, InvalidInput)


def test_verify_tells_of_files_that_were_lost_or_spoiled(
    engine: Engine, ledger: Ledger, lake: Path, app: typer.Typer
) -> None:
    ledger.record([assessment(n, seconds_past_noon=n * HOUR, probability=0.9) for n in range(3)])
    run(engine, lake)
    day = lake / "verdicts" / "day=2026-03-01"
    (day / "hour-12.parquet").unlink()
    lies = parquet.read_table(day / "hour-13.parquet", partitioning=None)
    place = lies.schema.get_field_index("label")
    lies = lies.set_column(place, "label", pyarrow.array(["faithful"]))
    parquet.write_table(lies, day / "hour-13.parquet")
    result = invoke(app, "--to", str(lake), "--verify", "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert {name: said[name] for name in ("equal", "different")} == {"equal": 1, "different": 2}
    assert [hour["exported"] for hour in said["hours"]] == [
        {"traces": 0, "verdicts": 0, "hallucinated": 0},
        {"traces": 1, "verdicts": 1, "hallucinated": 0},
    ]
    assert "2026-03-01T13: files" in result.stderr
    # What is not there is written again: so is an hour whose files someone deletes, to have it as the ledger has it.
    (day / "hour-13.parquet").unlink()
    assert run(engine, lake).hours == 2
    assert standings(engine, lake) == {Standing.EQUAL}


def _question(language: str) -> str:
    return GUIDE.split("## One question, three engines")[1].split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture
def exported(engine: Engine, ledger: Ledger, lake: Path) -> list[Any]:
    """A ledger with its export, and the guide's question answered in SQL."""
    ledger.record(
        [
            assessment(
                number, service=("desk", "web")[number % 2], probability=number / 40, seconds_past_noon=number * HOUR
            )
            for number in range(40)
        ]
    )
    run(engine, lake, texts=True)
    with transaction(engine) as connection:
        rows = connection.exec_driver_sql(_question("postgres")).fetchall()
    assert len(rows) == 6
    return [(str(row[0]), *row[1:]) for row in rows]


def test_duckdb_and_postgres_give_one_answer(exported: list[Any], lake: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="comes with the extra dev, once that is installed anew")
    with duckdb.connect() as connection:
        rows = connection.execute(_question("duckdb").replace("/data/lake", str(lake))).fetchall()
    assert [(str(row[0]), *row[1:]) for row in rows] == exported


def test_pyarrow_and_postgres_give_one_answer(exported: list[Any], lake: Path) -> None:
    found: dict[str, Any] = {}
    exec(_question("python").replace("/data/lake", str(lake)), found)
    assert [tuple(row.values()) for row in found["answer"].to_pylist()] == exported
