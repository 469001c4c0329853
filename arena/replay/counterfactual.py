"""Answers the recorded queries of an episode with another defender.

The attacker is not there: its queries are those it asked of the defender it met, and of another one
it would have asked others. What a what-if shows is what the other defender would have made of these
very queries: their exits, their cost, and how far its answers are from those that were given.
"""

import tomllib
from collections.abc import Iterable
from typing import NamedTuple

from agents.base import Attacker, Kit
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.recording.shards import RecordedRound, require_tape, rounds_on_tape
from arena.registry import players
from arena.registry.trust import require_trust
from arena.replay.verify import logged_plan
from arena.runner.progress import Watcher
from arena.runner.resume import play_one
from arena.runner.run_record import run_record
from arena.runner.setup import Setup
from arena.runner.stand_in import StandIn
from arena.scenario import Scenario
from arena.scenario.planning import defender_plan
from arena.scenario.schema import DefenderSpec
from arena.system.devices import pick_device
from envs.errors import ArenaError, Refused, UnknownName
from envs.oracle import Oracle

FROZEN = (
    "the attacker's reactions are frozen: these are the queries it asked of the defender it met, "
    "and of this one it would have asked others"
)


class WhatIf(NamedTuple):
    """What came of a what-if.

    Attributes:
        origin: the episode whose queries were answered.
        episode: the row of the what-if, of kind "what-if".
        agreement: share of answers whose label is the recorded one's, in [0, 1]; of images that
            both defenders answered, and None where there are none.
        distance: mean L1 distance of the answers from the recorded ones, 0 to 2; likewise.
    """

    origin: EpisodeRow
    episode: EpisodeRow
    agreement: float | None
    distance: float | None


class TapeDeck(Attacker):
    """Asks what was asked before, round by round, and holds the answers beside the old ones."""

    def __init__(self, rounds: Iterable[RecordedRound]) -> None:
        self._rounds = rounds
        self._agreed = self._distance = 0.0
        self.asked = 0

    @property
    def agreement(self) -> float | None:
        """Share of answers whose label is the recorded one's; None where none was compared."""
        return self._agreed / self.asked if self.asked else None

    @property
    def distance(self) -> float | None:
        """Mean L1 distance of an answer from the recorded one; None where none was compared."""
        return self._distance / self.asked if self.asked else None

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Ask every recorded round that this defender does not refuse."""
        for images, before, account, *_ in self._rounds:
            try:
                now = oracle.query(images.to(kit.device), account).posteriors.cpu()
            except Refused:
                continue
            if not before.any():  # refused then: there is nothing to compare with
                continue
            self._agreed += int((now.argmax(1) == before.argmax(1)).sum())
            self._distance += float((now.double() - before.double()).abs().sum())
            self.asked += len(images)
            kit.report(agreement=self._agreed / self.asked, distance=self._distance / self.asked)


def answer_with(
    log: Log,
    id: str,
    defender: str,
    *,
    device: str = "cpu",
    watcher: Watcher | None = None,
    trust_plugins: bool = False,
) -> WhatIf:
    """Answer an episode's recorded queries with another defender, and log it as a what-if.

    Args:
        log: where the episode is, and where the what-if goes.
        id: of the episode, or a beginning of it.
        defender: the name of a defender of the same scenario, or of a defence.
        device: where to play.
        watcher: looks on.
        trust_plugins: whether files and modules that the log names may be imported; a file that
            `defender` names is.

    Raises:
        ArenaError: no such episode, it kept no queries, nobody has that name, or the log names code
            which is not trusted.
    """
    origin = log.episode(id)
    scenario = Scenario.parse(tomllib.loads(_text(log, origin)))
    spec = _defender_spec(scenario, defender, trust_plugins=trust_plugins)
    # another defender, without carried state
    changes = {"after": "", "carried_state": {}, "record": "digests", "keep": ()}
    logged = logged_plan(origin)
    if not trust_plugins:  # its attacker is not there
        require_trust(logged.model_dump(mode="json", exclude={"attacker", "defender"}))
    plan = logged.model_copy(update={"defender": defender_plan(spec), **changes})
    require_tape(log, origin.id)
    deck = TapeDeck(rounds_on_tape(log, origin.id))
    place, watcher = pick_device(device), watcher or Watcher()
    record = run_record(
        f"arena replay {origin.id} --against {defender}",
        place,
        scenario_name=origin.scenario_name,
        scenario_text=_text(log, origin),
    )
    title = f"what if {plan.title}"
    watcher.begin(title, 0, 1)
    row, interrupted = play_one(
        plan,
        Setup(place, watcher),
        log,
        run=log.begin_run(record),
        record=record,
        stand_in=StandIn(deck, origin.id),
    )
    watcher.end(title, row.id, row.status, row.error)
    if interrupted:
        raise KeyboardInterrupt
    return WhatIf(origin, row, deck.agreement, deck.distance)


def _defender_spec(scenario: Scenario, name: str, *, trust_plugins: bool) -> DefenderSpec:
    """Find a defender of the logged scenario by its name, or else take a defence by its own."""
    known = {spec.name: spec for spec in scenario.defenders}
    if name in known:
        if not trust_plugins:
            require_trust(known[name].model_dump(mode="json"))
        return known[name]
    if name in players.defences.names() or ":" in name:
        return DefenderSpec.model_validate({"defence": name})
    raise UnknownName("defender of the scenario, or defence", name,
                      {*known, *players.defences.names()})  # fmt: skip


def _text(log: Log, row: EpisodeRow) -> str:
    text = next((run.scenario_text for run in log.runs() if run.id == row.run_id), "")
    if not text:
        raise ArenaError(f"the log does not hold the scenario of episode {row.id}")
    return text
