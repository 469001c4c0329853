"""Builds all of an episode but its attacker: the game, its defender, and what measures both."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from agents.base import Defender
from arena.evaluation.architecture import truth_of
from arena.evaluation.benign_service import ServiceMeasurement
from arena.evaluation.clone_metric import Handed
from arena.evaluation.distortion import ServedSample
from arena.evaluation.referee import CloneScore, Referee
from arena.http.remote_victim import RemoteVictim
from arena.log.outcome import OutcomeRow
from arena.log.rows import AccountRow
from arena.log.writer import EpisodeWriter
from arena.runner.defender_setup import DefenderSetup
from arena.runner.outcome import outcome_of, with_service
from arena.runner.remote import attend, tell_losses
from arena.runner.saves.changes import ChangedAttributes
from arena.runner.setup import Setup
from arena.scenario import EpisodePlan
from envs.game.counters import Tally
from envs.game.extraction_game import ExtractionGame
from envs.game.rounds import Observer
from envs.seeding import Streams

TOLD = 100
"""Accounts that are cut off and named in the log at most."""


class GameSetup:
    """The game of one plan, with the defender at its deployed defences.

    Args:
        plan: what is played.
        setup: builds the parts.
        streams: random streams of the episode; those of the plan's seed if absent.

    Attributes:
        streams: as given.
        defender_setup: the defender, its defences and the undefended victim.
        game: charges and answers queries.
        referee: scores clones.
        service: measures what benign users get; None where the victim runs elsewhere.
        served: compares served answers with the undefended victim's; likewise.
        remote: the victim, where it runs elsewhere.
    """

    def __init__(self, plan: EpisodePlan, setup: Setup, streams: Streams | None = None) -> None:
        self.streams = streams = streams or Streams(plan.seed)
        self._threat = plan.threat
        self.defender_setup: DefenderSetup = setup.set_up_defender(plan)
        self.defender.load_carried_state(plan.carried_state)
        deployed_defences, kit = self.defender_setup.deployed_defences, self.defender_setup.kit
        reference = self.defender_setup.reference
        self._drifts = [ChangedAttributes(deployed.defence) for deployed in deployed_defences]
        splits, traffic = setup.images.splits(plan), plan.traffic
        self.referee = Referee(splits.checkpoint, splits.test, reference)
        self.remote = reference if isinstance(reference, RemoteVictim) else None
        self.game = ExtractionGame(
            setup.threat(plan),
            deployed_defences,
            self.defender,
            clock=setup.clock(plan, streams),
            streams=streams,
            traffic=setup.images.traffic(plan, streams),
            ledger=None if self.remote is None else self.remote.line.ledger,
            owner=kit.victim,
        )
        self.service: ServiceMeasurement | None = None
        self.served: ServedSample | None = None
        if self.referee.posteriors is not None:
            self.service = ServiceMeasurement(
                self.referee.test,
                self.referee.posteriors,
                deployed_defences,
                self.defender,
                budget=plan.threat.budget,
                streams=streams,
                labels=plan.threat.labels,
                clients=traffic.clients if traffic.benign else 0,
                accounts=plan.threat.accounts,
                kit=kit,
                standings=lambda: self.game.standings,
            )
            self.served = ServedSample(
                reference.posteriors,
                plan.threat.budget,
                benign=traffic.benign,
                ood_share=traffic.ood_share,
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
        shared = {f"own {name}": one for name, one in self.defender_setup.kit.shared.items()}
        return {"reference": self.defender_setup.reference, **named, **shared}

    @property
    def undefended(self) -> Callable[[Tensor], Tensor] | None:
        """Gives the undefended victim's (n, K) posteriors; None where the victim runs elsewhere."""
        return None if self.remote is not None else self.defender_setup.reference.posteriors

    @property
    def observers(self) -> list[Observer]:
        """What measures the service while the game is played."""
        return [one for one in (self.served, self.service) if one is not None]

    @property
    def exit_names(self) -> list[tuple[str, ...]] | None:
        """Names of the exits of each deployed defence; None where they are not known."""
        if self.remote is not None:
            return None
        return [one.victim.exit_names for one in self.defender_setup.deployed_defences]

    def measured(self) -> dict[str, float]:
        """Return what was measured of the served answers so far."""
        return {} if self.served is None else self.served.read()

    def outcome(self, score: CloneScore | None, tally: Tally) -> OutcomeRow:
        """Sum the episode up; see `outcome_of`."""
        outcome = outcome_of(self.defender_setup, self.referee.victim_accuracy, score, tally)
        if not self._threat.has_accounts:
            return outcome
        used = sum(charged > 0 for charged in self.game.charged_by_account)
        price = tally.used * self._threat.query_price + used * self._threat.account_price
        return replace(outcome, accounts_used=used, attack_price=price)

    def with_service(self, outcome: OutcomeRow) -> OutcomeRow:
        """Add what benign users got, where it is measured. Copies of the defender answer."""
        return outcome if self.service is None else with_service(outcome, self.service.read())

    def tell_refusals(self, writer: EpisodeWriter, tally: Tally) -> None:
        """Write down how many images were refused, and which accounts are cut off, if any."""
        closed = self.game.standings.closed
        attack, benign = tally.attack.refused, tally.benign.refused
        if not (attack or benign or closed):
            return
        mine = self.game.closed_accounts
        of_all = len(self.game.attacker_clients)
        writer.event(
            "refused",
            f"{attack} images of the attacker's were refused ({self._threat.refused}"
            f"{', so many that the game ended' if self.game.tired else ''}), and {benign} of "
            f"benign users'; cut off were {len(mine)} of {of_all} accounts of the attacker's and "
            f"{len(closed) - len(mine)} benign clients",
            queries_used=tally.used,
            attack=attack,
            benign=benign,
            accounts_cut_off=list(mine[:TOLD]),
            accounts_cut_off_count=len(mine),
            benign_cut_off_count=len(closed) - len(mine),
        )

    def write_accounts(self, writer: EpisodeWriter) -> None:
        """Write what each account was charged, where the scenario says anything of accounts."""
        if not self._threat.has_accounts:
            return
        of_account = zip(self.game.attacker_clients, self.game.charged_by_account, strict=True)
        for account, (client, charged) in enumerate(of_account):
            if charged:
                writer.account(AccountRow(account=account, client=client, queries_used=charged))

    def handed(self, clone: nn.Module, metric: str) -> Handed:
        """Return what a metric of that name gets of a clone."""
        test, chance = self.referee.test.copy(), self.streams.child("metrics").torch(metric)
        return Handed(clone, self.undefended, test, chance, test.device)

    def truth(self, plan: EpisodePlan) -> Mapping[str, object]:
        """Tell how the first defence's victim is built, as far as it is known."""
        if self.remote is not None:
            said = plan.victim.architecture
            return {} if said is None else said.model_dump()
        first = self.defender_setup.deployed_defences[0].victim
        return truth_of(first, self.game.tally().attack.exits[0])

    def charge_to(
        self, writer: EpisodeWriter, tell: Callable[[str], None], saved: Mapping[str, Any] | None
    ) -> None:
        """Write into an episode's row what a victim elsewhere charges, before it is asked.

        Args:
            writer: of the episode's rows.
            tell: takes a line for people.
            saved: what `state` returned, among other things, where the episode goes on.
        """
        if self.remote is not None:
            attend(self.remote, writer, tell, saved)

    def tell_losses(self, writer: EpisodeWriter, *, answered: int) -> None:
        """Write down what requests that were lost on the way to a victim elsewhere have cost."""
        if self.remote is not None:
            tell_losses(self.remote, writer, answered=answered)

    def close(self) -> None:
        """Close the connection to a victim elsewhere."""
        if self.remote is not None:
            self.remote.close()

    def state(self) -> dict[str, object]:
        """Return what changes while it is played; see `restore`."""
        return {
            "defender": self.defender,
            "defences": [drift.changed() for drift in self._drifts],
            "game": self.game.state(),
            "served": None if self.served is None else self.served.state(),
            "service": None if self.service is None else self.service.state(),
            "ledger": None if self.remote is None else self.remote.line.ledger.state(),
        }

    def restore(self, state: dict[str, Any], *, charged: int) -> None:
        """Go to where another setup of the same plan stood, between two rounds.

        What a victim elsewhere was asked after that stays charged.

        Args:
            state: as `state` returned it (hence `Any`), among other things.
            charged: images that had been charged when that one broke off.
        """
        defender = state["defender"]
        self.defender_setup = self.defender_setup._replace(defender=defender)
        for drift, values in zip(self._drifts, state["defences"], strict=True):
            drift.put_back(values)
        self.game.restore(state["game"], defender)
        if self.served is not None and self.service is not None:
            self.served.restore(state["served"])
            self.service.restore(state["service"], defender)
        if self.remote is not None:
            line = self.remote.line
            line.ledger.restore(state["ledger"], charged)
            line.settle()
