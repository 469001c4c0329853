"""Builds all of an episode but its attacker: the game, its defender, and what measures both."""

from typing import Any

from agents.base import Defender
from arena.evaluation.benign_service import ServiceMeasurement
from arena.evaluation.distortion import ServedSample
from arena.evaluation.referee import Referee
from arena.runner.saves.changes import ChangedAttributes
from arena.runner.setup import DefenderSetup, Setup
from arena.scenario import EpisodePlan
from envs.game.extraction_game import ExtractionGame
from envs.seeding import Streams


class GameSetup:
    """The game of one plan, with the defender at its deployed defences.

    Args:
        plan: what is played.
        setup: builds the parts.

    Attributes:
        streams: random streams of the episode.
        defender_setup: the defender, its defences and the undefended victim.
        game: charges and answers queries.
        referee: scores clones.
        service: measures what benign users get.
        served: compares served answers with the undefended victim's.
    """

    def __init__(self, plan: EpisodePlan, setup: Setup) -> None:
        self.streams = streams = Streams(plan.seed)
        self.defender_setup: DefenderSetup = setup.set_up_defender(plan)
        self.defender.load_carried_state(plan.carried_state)
        deployed_defences = self.defender_setup.deployed_defences
        reference = self.defender_setup.reference
        self._drifts = [ChangedAttributes(deployed.defence) for deployed in deployed_defences]
        splits, traffic = setup.splits(plan), plan.traffic
        self.referee = Referee(splits.checkpoint, splits.test, reference)
        self.service = ServiceMeasurement(
            self.referee.test,
            self.referee.posteriors,
            deployed_defences,
            self.defender,
            budget=plan.threat.budget,
            streams=streams,
            labels=plan.threat.labels,
            clients=traffic.clients if traffic.benign else 0,
        )
        self.served = ServedSample(
            reference.posteriors,
            plan.threat.budget,
            benign=traffic.benign,
            ood_share=traffic.ood_share,
        )
        self.game = ExtractionGame(
            setup.threat(plan),
            deployed_defences,
            self.defender,
            clock=setup.clock(plan, streams),
            streams=streams,
            traffic=setup.traffic(plan, streams),
        )

    @property
    def defender(self) -> Defender:
        """The defender as it stands."""
        return self.defender_setup.defender

    @property
    def live(self) -> dict[str, object]:
        """What a save knows by name: it is there again when the save is read."""
        victims = [deployed.victim for deployed in self.defender_setup.deployed_defences]
        named = {f"victim{number}": victim for number, victim in enumerate(victims)}
        return {"reference": self.defender_setup.reference, **named}

    def state(self) -> dict[str, object]:
        """Return what changes while it is played; see `restore`."""
        return {
            "defender": self.defender,
            "defences": [drift.changed() for drift in self._drifts],
            "game": self.game.state(),
            "served": self.served.state(),
            "service": self.service.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where another setup of the same plan stood, between two rounds.

        Args:
            state: as `state` returned it (hence `Any`), among other things.
        """
        defender = state["defender"]
        self.defender_setup = self.defender_setup._replace(defender=defender)
        for drift, values in zip(self._drifts, state["defences"], strict=True):
            drift.put_back(values)
        self.game.restore(state["game"], defender)
        self.served.restore(state["served"])
        self.service.restore(state["service"], defender)
