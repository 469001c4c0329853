"""Prepares data and defended victims once, and starts a fresh game for every episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch

from envs.data.images import Splits
from envs.data.sources import load
from envs.defences.base import Defence, DeployedDefence
from envs.defences.harden_kit import HardenKit
from envs.defences.hardening import hardened_by
from envs.defences.initial_state import InitialState
from envs.defences.needs import require_needs
from envs.errors import ScenarioError
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.rounds import DefenderProtocol
from envs.game.traffic import BenignTraffic
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.recipes import Recipe, recipe_for
from envs.training.victims import VictimTraining, train_victim
from envs.types import AccountPolicy, Labels, LatencyMode, Refusals, ThreatModel
from envs.victim.owned import Owned
from envs.victim.victim import Victim


@dataclass(frozen=True, kw_only=True)
class GameSpec:
    """What the environments play with; each has these as arguments.

    Attributes:
        data, data_options: the victim's data set, and where it lies.
        victim, victim_params, recipe, victim_seed: what is trained (and cached) as the victim.
        budget, labels, latency: the threat model; latency "none" or "virtual".
        benign: share of benign queries among all, 0 to below 1.
        accounts, account_budget, account_policy: of the attacker; see `envs.types.ThreatModel`.
        refused: whether refused requests are charged; likewise.
        device: where networks and images live.
    """

    data: str = "digits"
    data_options: Mapping[str, Any] | None = None  # whatever the data set's loader takes
    victim: str = "resnet10"
    victim_params: Mapping[str, Any] | None = None  # likewise the network's builder
    recipe: Recipe | None = None
    victim_seed: int = 0
    budget: int = 20_000
    labels: Labels = "soft"
    latency: LatencyMode = "none"
    benign: float = 0.0
    device: str = "cpu"
    accounts: int = 1
    account_budget: int | None = None
    account_policy: AccountPolicy = "one"
    refused: Refusals = "charged"

    def __post_init__(self) -> None:
        check_choices(labels=(self.labels, get_args(Labels)))
        check_choices(latency=(self.latency, ("none", "virtual")))
        check_choices(account_policy=(self.account_policy, get_args(AccountPolicy)))
        check_choices(refused=(self.refused, get_args(Refusals)))
        check_counts(budget=self.budget, accounts=self.accounts)
        if self.account_budget is not None:
            check_counts(account_budget=self.account_budget)
        if not isinstance(self.benign, int | float) or not 0 <= self.benign < 1:
            raise ScenarioError(f"expected benign of at least 0 and below 1, got {self.benign!r}")


def check_choices(**given: tuple[object, Sequence[str]]) -> None:
    """Refuse a word that is none of those an argument may be. Raises ScenarioError."""
    for name, (value, words) in given.items():
        if value not in words:
            raise ScenarioError(f"expected {name} {' or '.join(map(repr, words))}, got {value!r}")


def check_counts(**given: object) -> None:
    """Refuse what is no whole number of at least 1. Raises ScenarioError."""
    for name, value in given.items():
        if type(value) is not int or not 1 <= value < 2**63:
            raise ScenarioError(
                f"expected {name} as a whole number of at least 1 and below 9.2e18, got {value!r}"
            )


def check_defences(defences: Sequence[object]) -> None:
    """Refuse what is no defence, the name of one among them. Raises ScenarioError."""
    for one in defences:
        if not isinstance(one, Defence):
            raise ScenarioError(
                f"expected an object of a class of defences, as envs.defences.dnf.DNF(), "
                f"got {one!r}"
            )


class GameFactory:
    """Data, hardened victims and the threat model of every game that starts here.

    Args:
        spec: what to play with.
        defences: what the defender brings, hardened here, in the order of the deployed_defences.

    Attributes:
        whole_macs: multiply-accumulates of one image through the undefended victim.
    """

    def __init__(self, spec: GameSpec, defences: Sequence[Defence]) -> None:
        self.device = torch.device(spec.device)
        self.splits: Splits = load(spec.data, device=spec.device, **dict(spec.data_options or {}))
        trained = VictimTraining(
            network=spec.victim,
            params=dict(spec.victim_params or {}),
            recipe=spec.recipe or recipe_for(self.splits.image_shape),
            seed=spec.victim_seed,
        )
        self._bare = self._victim(trained)
        self.whole_macs = self._bare.profile.macs[-1]
        self.deployed_defences = tuple(self._harden(defence, trained) for defence in defences)
        self._initial = [
            InitialState(one.defence, (one.victim, self._bare)) for one in self.deployed_defences
        ]
        self._fresh = True
        self.threat = ThreatModel(
            num_classes=self.splits.num_classes,
            image_shape=self.splits.image_shape,
            budget=spec.budget,
            labels=spec.labels,
            latency_visible=spec.latency != "none",
            accounts=spec.accounts,
            account_budget=spec.account_budget,
            account_policy=spec.account_policy,
            refused=spec.refused,
        )
        self._spec = spec

    def new_game(self, defender: DefenderProtocol, streams: Streams) -> ExtractionGame:
        """Start a game with an unspent budget; every random stream comes from `streams`.

        Defences stand as they were hardened: what they kept of an earlier game is gone, and that
        game cannot go on.
        """
        if not self._fresh:
            for initial in self._initial:
                initial.put_back()
        self._fresh = False
        traffic = None
        if self._spec.benign > 0:
            traffic = BenignTraffic(
                self.splits.benign, share=self._spec.benign, generator=streams.torch("traffic")
            )
        return ExtractionGame(
            self.threat,
            self.deployed_defences,
            defender,
            clock=make_clock(self._spec.latency, streams),
            streams=streams,
            traffic=traffic,
            owner=Owned(self._bare),
        )

    def _victim(self, trained: VictimTraining) -> Victim:
        """Train or recall the undefended victim; a network of its own on every call."""
        return Victim(MultiExit(train_victim(self.splits, trained, device=self.device), ()))

    def _harden(self, defence: Defence, trained: VictimTraining) -> DeployedDefence:
        kit = HardenKit(
            data=self.splits,
            streams=Streams(trained.seed).child("harden"),
            device=self.device,
            victim_key=trained.key(self.splits),
        )
        name = type(defence).__name__
        require_needs(defence.needs, name, self._bare.network.backbone)
        # hardening may touch the backbone, hence a fresh one
        hardened = hardened_by(defence, self._victim(trained), kit, name=name)
        return DeployedDefence(name, defence, hardened, self._bare)
