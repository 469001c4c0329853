"""Finding episodes in a log: by filters, by a prefix of their id, in an order."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest

from arena.log.episode_filter import EpisodeFilter
from arena.log.outcome import OutcomeRow
from arena.log.rows import EpisodeRecord, RunRecord
from arena.log.store import Log
from envs.errors import LogError, UnknownName

RUN = RunRecord(command="arena run x.toml", scenario_name="x")
RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={}, seed=7, attacker="dfme", defender="static",
    victim="v", clone="c", data="digits", budget=100,
)  # fmt: skip
OUTCOME = OutcomeRow(queries_used=96, clone_accuracy=0.5)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A log to read: two attackers, two defenders (a run for each), three seeds."""
    with Log.open(tmp_path_factory.mktemp("many") / "arena.db") as log:
        runs = {"none": log.begin_run(RUN), "dnf": log.begin_run(RUN)}
        for attacker, defender, seed in product(("dfme", "knockoff"), runs, range(3)):
            record = replace(
                RECORD,
                scenario_name="s1" if attacker == "dfme" else "s2",
                attacker=attacker,
                defender=defender,
                seed=seed,
                plan_hash=f"{attacker}/{defender}/{seed}",
            )
            writer = log.begin_episode(runs[defender], record)
            if seed < 2:
                writer.finish("success" if seed == 0 else "cancelled", OUTCOME)
        yield log


@pytest.mark.parametrize(
    ("which", "count"),
    [
        (EpisodeFilter(), 12),
        (EpisodeFilter(scenario="s1"), 6),
        (EpisodeFilter(attacker="knockoff", defender="dnf"), 3),
        (EpisodeFilter(attacker=("knockoff", "dfme")), 12),
        (EpisodeFilter(seed=0), 4),
        (EpisodeFilter(status=("success", "cancelled")), 8),
        (EpisodeFilter(status="error"), 0),
        (EpisodeFilter(plan_hash="dfme/dnf/1"), 1),
        (EpisodeFilter(kind="what-if"), 0),
        (EpisodeFilter(limit=5), 5),
        (EpisodeFilter(id_prefix="%"), 0),
        (EpisodeFilter(since=datetime(2000, 1, 1, tzinfo=UTC)), 12),
        (EpisodeFilter(since=datetime(2900, 1, 1, tzinfo=UTC)), 0),
        (EpisodeFilter(until=datetime(2000, 1, 1, tzinfo=UTC)), 0),
        (EpisodeFilter(until=datetime(2900, 1, 1, tzinfo=UTC)), 12),
    ],
)
def test_a_filter_lets_through_what_it_names(many: Log, which: EpisodeFilter, count: int):
    assert len(many.episodes(which)) == count


def test_a_filter_by_run_and_prefix_finds_the_run_and_the_prefix(many: Log):
    (run, _) = many.runs()
    rows = many.episodes(EpisodeFilter(run=run.id))
    assert {row.defender for row in rows} == {"dnf"}
    assert len(rows) == 6
    prefix = rows[0].id[:3]
    meant = {row.id for row in many.episodes() if row.id.startswith(prefix)}
    assert {row.id for row in many.episodes(EpisodeFilter(id_prefix=prefix.upper()))} == meant


def test_episodes_come_newest_first_unless_asked_otherwise(many: Log):
    newest = [row.started for row in many.episodes()]
    assert newest == sorted(newest, reverse=True)
    oldest = many.episodes(EpisodeFilter(newest_first=False, limit=1))
    assert oldest[0].started == newest[-1]


def test_a_brief_listing_differs_only_in_what_is_long(many: Log):
    full = many.episodes()
    empty = {"plan": {}, "attacker_params": {}, "defender_params": {}, "versions": {},
             "content_digest": None}  # fmt: skip
    assert many.episodes(brief=True) == [replace(row, **empty) for row in full]
    assert full[0].plan == RECORD.plan


def test_an_episode_is_found_by_a_prefix_that_no_other_shares(many: Log):
    ids = [row.id for row in many.episodes()]
    for id in ids:
        shared = next(n for n in range(1, 13) if sum(i.startswith(id[:n]) for i in ids) == 1)
        assert many.episode(id[:shared]).id == id
        if shared > 1:
            with pytest.raises(LogError, match="give more digits"):
                many.episode(id[: shared - 1])


def test_an_id_that_is_not_there_brings_the_nearest(many: Log):
    id = many.episodes()[0].id
    with pytest.raises(UnknownName, match=f"did you mean '{id}'"):
        many.episode(id[:-1] + "z")
    with pytest.raises(UnknownName, match="no episode named 'zz'; known: "):
        many.episode("zz")


def test_sorting_by_what_is_no_column_names_the_nearest(many: Log):
    with pytest.raises(UnknownName, match="did you mean 'clone_accuracy'"):
        many.episodes(EpisodeFilter(sort="clone_acuracy"))


def test_an_empty_log_says_that_it_is_empty():
    with Log.open("sqlite://") as log:
        with pytest.raises(LogError, match="holds no episodes; play some"):
            log.episode("ab")
        assert log.episodes() == log.runs() == []


def test_only_a_success_counts_as_finished(many: Log):
    found = many.finished("dfme/dnf/0")
    assert found is not None
    assert (found.status, found.attacker, found.seed) == ("success", "dfme", 0)
    assert many.finished("dfme/dnf/1") is None  # cancelled
    assert many.finished("dfme/dnf/2") is None  # started
    assert many.finished("nothing") is None
