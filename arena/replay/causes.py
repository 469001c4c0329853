"""Lists why a replay may differ: a log that contradicts itself, or changed circumstances."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from arena.log.rows import EpisodeRow, RoundRow
from arena.registry import players
from arena.scenario import EpisodePlan
from arena.scenario.plan import RULES
from arena.scenario.planning import attacker_plan, contents_of
from arena.system.provenance import git_state
from envs.errors import ArenaError


class Then(NamedTuple):
    """What is known of an original: its row, whether its code had changes, and its plan."""

    row: EpisodeRow
    dirty: bool | None
    plan: EpisodePlan


def contradictions(
    then: Then, logged: Sequence[RoundRow], replayed: Sequence[RoundRow]
) -> list[str]:
    """Tell where the log cannot be as it was written.

    Digests run on from round to round, so that a play which has left its original never comes
    back to it: a bucket that differs before one that does not was altered.
    """
    found = []
    if then.plan.rules == RULES and then.plan.hash != then.row.plan_hash:
        found.append(
            f"the plan in the log is not the one its hash {then.row.plan_hash} names: "
            f"it was altered"
        )
    again = {bucket.bucket: bucket for bucket in replayed}
    same = [_digests(bucket) == _digests(again.get(bucket.bucket)) for bucket in logged]
    healed = [row.bucket for row, ok, later in zip(logged, same, _any_later(same), strict=True)
              if not ok and later]  # fmt: skip
    if healed:
        found.append(
            f"later buckets agree again with bucket {healed[0]} left behind, and a running digest "
            f"cannot: its row in the log was altered"
        )
    elif same and all(same) and any(_counts(row) != _counts(again[row.bucket]) for row in logged):
        found.append("every query and answer is the same, so that counts which differ were "
                     "altered in the log")  # fmt: skip
    return found


def conditions(then: Then, now: EpisodeRow) -> list[str]:
    """Tell which circumstances of the replay are not those of the original."""
    row = then.row
    found = [*_contents(then.plan), *_players(then.plan), *_versions(row.versions, now.versions)]
    if then.plan.rules != RULES:
        found.insert(0, f"the rules are version {RULES} now and were {then.plan.rules}")
    if row.device != now.device:
        found.append(f"the device is {now.device} now and was {row.device}")
    commit, dirty = git_state()
    if row.git_commit != commit:
        found.append(f"the code is at commit {_short(commit)} now and was at "
                     f"{_short(row.git_commit)}")  # fmt: skip
    if then.dirty or dirty:
        when = " and ".join(word for word, yes in (("then", then.dirty), ("now", dirty)) if yes)
        found.append(f"the code had changes that are in no commit ({when})")
    if then.plan.threat.latency == "wall":
        found.insert(0, "latency was really measured, and the attacker may have acted on it")
    return found


def _contents(plan: EpisodePlan) -> list[str]:
    """Name the files that do not hold what they held."""
    now = contents_of(plan)
    return [f"the files of '{role}' do not hold what they held"
            for role in sorted(plan.contents.keys() | now.keys())
            if plan.contents.get(role) != now.get(role)]  # fmt: skip


def _players(plan: EpisodePlan) -> list[str]:
    """Name the players from outside whose code is not what it was."""
    made = [("defender", players.defenders, plan.defender.use, plan.defender.policy,
             plan.defender.code)]  # fmt: skip
    made += [("defence", players.defences, one.use, one.params, one.code)
             for one in plan.defender.defence]  # fmt: skip
    attacker, found = plan.attacker, []
    if plan.isolation == "process":  # code of others is not imported here
        with suppress(ArenaError):
            now = attacker_plan(attacker, plan.isolation)
            pairs = [("attacker", attacker.code, now), *(
                ("wrapper", then.code, one)
                for then, one in zip(attacker.wrappers, now.wrappers, strict=True)
            )]  # fmt: skip
            found += [_changed(kind, one.use) for kind, code, one in pairs if one.code != code]
    else:
        made = [("attacker", players.attackers, attacker.use, attacker.params, attacker.code),
                *(("wrapper", players.wrappers, one.use, one.params, one.code)
                  for one in attacker.wrappers), *made]  # fmt: skip
    for kind, names, use, params, code in made:
        try:
            changed = names.resolve(use, params)[1] != code
        except ArenaError:  # of another version: its own fault is told by the play
            continue
        if changed:
            found.append(_changed(kind, use))
    return found


def _changed(kind: str, use: str) -> str:
    return f"the code of {kind} {use} has changed since"


def _versions(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [
        f"{name} is {now.get(name, 'missing')} now and was {then[name]}"
        for name in then  # what an older version did not write down is not known to differ
        if then[name] != now.get(name)
    ]


def _any_later(same: Sequence[bool]) -> list[bool]:
    return [any(same[index + 1 :]) for index in range(len(same))]


def _digests(bucket: RoundRow | None) -> tuple[object, ...]:
    return () if bucket is None else (bucket.query_digest, bucket.answer_digest)


def _counts(bucket: RoundRow) -> tuple[object, ...]:
    return (
        bucket.first_round,
        bucket.rounds,
        bucket.attack_answered,
        bucket.benign_answered,
        bucket.queries_used,
        bucket.attack_exits,
        bucket.benign_exits,
        bucket.attack_macs,
        bucket.benign_macs,
        bucket.benign_correct,
    )


def _short(commit: str | None) -> str:
    return commit[:10] if commit else "unknown"
