"""Builds what an episode needs: data, victims, deployed defences, traffic, clones, clock."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from arena.isolation.attacker import Contestant
from arena.registry import players
from arena.runner.contestant import contestant_of
from arena.runner.defender_setup import DefenderSetup, with_defender
from arena.runner.progress import Watcher
from arena.runner.remote import in_front_of, reach
from arena.scenario import EpisodePlan
from arena.scenario.pools import INSIST, part_of_victims_data
from arena.scenario.schema_parts import DataSpec, NetSpec
from envs.data.images import ImageSet, Normalisation, Splits
from envs.data.overlap import digests, scored_digests
from envs.data.sources import load, load_pool
from envs.data.splits import resampled
from envs.defences.base import Clock, Defence, DeployedDefence, HardenKit
from envs.defences.needs import require_needs
from envs.errors import PlayerError, ScenarioError
from envs.game.clocks import make_clock
from envs.game.traffic import BenignTraffic
from envs.latency.model import make_channel
from envs.nets import registry
from envs.nets.exit_cost import ExitProfile
from envs.nets.given_weights import take_weights
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.checkpoint_file import JSON
from envs.training.checkpoints import counted_uses
from envs.training.recipes import recipe_for
from envs.training.victims import VictimTraining, remarks, train_victim
from envs.types import ThreatModel
from envs.victim.victim import Victim


class Setup:
    """Builds what an episode needs; keeps data between episodes.

    Args:
        device: where networks and images live.
        watcher: sees what is being prepared.
    """

    def __init__(self, device: torch.device, watcher: Watcher) -> None:
        self.device, self.watcher = device, watcher
        self._splits: dict[str, Splits] = {}
        self._resampled: tuple[tuple[str, int], Splits] | None = None  # of the latest seed
        self._scored: dict[str, frozenset[bytes]] = {}  # of the latest splits, by fingerprint
        self._remarks: set[str] = set()
        self._overlaps: dict[tuple[str, str, int], int] = {}  # by splits, pool and seed

    def splits(self, plan: EpisodePlan) -> Splits:
        """Load the victim's data set, divided anew by the seed where the scenario asks for it."""
        key = plan.data.model_dump_json()
        if key not in self._splits:
            self._splits[key] = load(plan.data.use, **self._options(plan.data))
        seed = _resampling(plan)
        if seed is None:
            return self._splits[key]
        if self._resampled is None or self._resampled[0] != (key, seed):
            self._resampled = ((key, seed), resampled(self._splits[key], seed))
        return self._resampled[1]

    def threat(self, plan: EpisodePlan) -> ThreatModel:
        """Return what the attacker may ask and see."""
        splits = self.splits(plan)
        return ThreatModel(
            num_classes=splits.num_classes,
            image_shape=splits.image_shape,
            budget=plan.threat.budget,
            labels=plan.threat.labels,
            latency_visible=plan.threat.latency != "none",
            accounts=plan.threat.accounts,
            account_budget=plan.threat.account_budget,
            account_policy=plan.threat.account_policy,
            refused=plan.threat.refused,
        )

    def victim_spec(self, plan: EpisodePlan) -> VictimTraining:
        """Return how to train the undefended victim; its seed follows the episode's by default."""
        splits = self.splits(plan)
        recipe = recipe_for(splits.image_shape).with_changes(**plan.victim.recipe)
        return VictimTraining(
            network=plan.victim.use,
            params=cast(Mapping[str, JSON], plan.victim.params),
            recipe=recipe,
            seed=plan.victim_seed,
            weights=plan.victim.weights,
            normalise=_given_normalisation(plan.victim),
            exits=plan.victim.exits,
        )

    def set_up_defender(self, plan: EpisodePlan) -> DefenderSetup:
        """Train or recall the victim, harden it with each defence, and set the defender up."""
        if plan.victim.is_remote:
            return self._set_up_elsewhere(plan)
        splits, spec = self.splits(plan), self.victim_spec(plan)
        report = self.watcher.line

        def fresh_victim() -> Victim:
            # hardening may touch its backbone, so that every defence gets a network of its own
            network = train_victim(splits, spec, device=self.device, report=report)
            return Victim(MultiExit(network, ()))

        self.watcher.phase(plan.title, "training victim")
        reference = fresh_victim()
        self._remark(reference, splits)
        seconds = 0.0
        deployed_defences = []
        self.watcher.phase(plan.title, "hardening")
        for brought in plan.defender.defence:
            defence = players.defences.create(brought.use, brought.params)
            assert isinstance(defence, Defence)
            require_needs(defence.needs, brought.use, reference.network.backbone)
            kit = HardenKit(
                data=splits,
                streams=Streams(spec.seed).child("harden"),
                device=self.device,
                victim_key=spec.key(splits),
                load_pool=self._defences_loader(plan),
                report=report,
                expected=self._expected(plan),
            )
            fresh = fresh_victim()
            began = time.perf_counter()
            with counted_uses() as uses:
                victim = defence.harden(fresh, kit)
            # what was trained elsewhere took another machine another time
            if uses.made or not uses.recalled:
                seconds += time.perf_counter() - began
            deployed_defences.append(DeployedDefence(brought.use, defence, victim, reference))
        return with_defender(
            plan, reference, deployed_defences, splits, device=self.device, seconds=seconds
        )

    def _set_up_elsewhere(self, plan: EpisodePlan) -> DefenderSetup:
        victim = reach(plan, self.threat(plan), self.device, self.watcher.line)
        splits = self.splits(plan)
        deployed = in_front_of(victim, plan, splits, self.device)
        return with_defender(plan, victim, deployed, splits, device=self.device, seconds=None)

    def _remark(self, victim: Victim, splits: Splits) -> None:
        """Tell once what users should know of a victim that is not one of ours."""
        for line in remarks(victim.network.backbone, splits):
            if line not in self._remarks:
                self._remarks.add(line)
                self.watcher.line(line)

    def pool(self, plan: EpisodePlan) -> tuple[ImageSet | None, int | None]:
        """Load the attacker's surrogate pool; count the scored images in it. None without one.

        Raises:
            ScenarioError: it holds images that clones are scored on, and the scenario does not
                insist.
        """
        spec = plan.threat.pool
        if spec is None:
            return None, None
        pool = self.load_pool(plan, spec, generator=Streams(plan.seed).torch("pool"))
        key = (self.splits(plan).fingerprint, spec.model_dump_json(), plan.seed)
        if key not in self._overlaps:
            self._overlaps[key] = self._test_overlap(plan, pool)
        shared = self._overlaps[key]
        if shared and not plan.threat.allow_test_overlap:
            raise ScenarioError(f"the pool '{spec.use}' {_shares(shared)}; {INSIST}")
        return pool, shared

    def _test_overlap(self, plan: EpisodePlan, pool: ImageSet) -> int:
        """Count the images that clones are scored on and that a pool holds, by their content."""
        splits = self.splits(plan)
        if splits.fingerprint not in self._scored:
            self._scored = {splits.fingerprint: scored_digests(splits)}
        return len(self._scored[splits.fingerprint] & digests(pool))

    def traffic(self, plan: EpisodePlan, streams: Streams) -> BenignTraffic | None:
        """Set benign users up, if the scenario has any: with images that are in no other part."""
        if plan.traffic.benign == 0:
            return None
        ood = None
        if plan.traffic.ood is not None:
            spec = plan.traffic.ood
            ood = self.load_pool(plan, spec, generator=streams.torch("traffic/ood"))
            if shared := self._test_overlap(plan, ood):
                raise ScenarioError(f"traffic.ood: '{spec.use}' {_shares(shared)}")
        return BenignTraffic(
            self.splits(plan).benign,
            share=plan.traffic.benign,
            ood=ood,
            ood_share=plan.traffic.ood_share,
            clients=plan.traffic.clients,
            generator=streams.torch("traffic"),
        )

    def clock(self, plan: EpisodePlan, streams: Streams) -> Clock:
        """Build the clock: none, modelled, or the wall clock; and the network in between."""
        options: dict[str, Any] = dict(plan.latency)
        model, network = make_channel(**options)
        return make_clock(plan.threat.latency, streams, model=model, network=network)

    def _expected(self, plan: EpisodePlan) -> Callable[[ExitProfile], tuple[float, ...]] | None:
        """Return a function that predicts the modelled server time, with headroom for noise."""
        if plan.threat.latency != "virtual":
            return None
        options: dict[str, Any] = dict(plan.latency)
        return partial(make_channel(**options)[0].expected, deviations=4)

    def normalisation(
        self, plan: EpisodePlan, requires: frozenset[str], pool: ImageSet | None
    ) -> tuple[str, Normalisation]:
        """Return whose mean and deviation clones normalise by, and them.

        "given" are the scenario's, "victim" those of its training images, "pool" those of the pool
        of an attacker that needs one; "none" leaves images as they are.
        """
        splits = self.splits(plan)
        given = _given_normalisation(plan.clone)
        if given is not None:
            return "given", given
        if plan.threat.normalisation == "victim":
            return "victim", (splits.mean, splits.std)
        if pool is not None and "pool" in requires:
            return "pool", pool.mean_std()
        channels = splits.image_shape[0]
        return "none", ((0.0,) * channels, (1.0,) * channels)

    def clones(
        self, plan: EpisodePlan, streams: Streams, normalisation: Normalisation
    ) -> tuple[Callable[[], nn.Module], torch.Generator]:
        """Return a builder of freshly initialised clones; each call draws other weights.

        Args:
            plan: names the network.
            streams: of the episode.
            normalisation: what a clone subtracts from images and divides them by.

        Returns:
            The builder, and the generator it draws from.
        """
        threat, (mean, std) = self.threat(plan), normalisation
        generator = streams.torch("clone")
        registry.code_digest(plan.clone.use)  # imports its code, which a save may refer to

        def new_clone() -> nn.Module:
            network = registry.build(
                plan.clone.use,
                num_classes=threat.num_classes,
                image_shape=threat.image_shape,
                mean=mean,
                std=std,
                generator=generator,
                **plan.clone.params,
            ).to(self.device)
            if plan.clone.weights is not None:
                take_weights(network, plan.clone.weights)
            return network

        return new_clone, generator

    def contestant(
        self,
        plan: EpisodePlan,
        clones: torch.Generator,
        normalisation: Normalisation,
        note: Callable[[str], None],
    ) -> Contestant:
        """Return who attacks in a process of its own; see `contestant_of`."""
        # of another stream: the clones of the episode are drawn in that process
        here = self.clones(plan, Streams(0), normalisation)[0]
        return contestant_of(
            plan, new_network=here, clones=clones, normalisation=normalisation, note=note
        )

    def load_pool(
        self, plan: EpisodePlan, spec: DataSpec, *, generator: torch.Generator
    ) -> ImageSet:
        """Load a pool at the victim's image shape. Raises ArenaError as its source does."""
        shape = self.splits(plan).image_shape
        # a part of the victim's own data set must be cut out of the episode's division of it
        own = part_of_victims_data(plan.data, spec) is not None
        return load_pool(
            spec.use,
            image_shape=shape,
            generator=generator,
            resample=_resampling(plan) if own else None,
            **self._options(spec),
        )

    def _defences_loader(self, plan: EpisodePlan) -> Callable[..., ImageSet]:
        """Return a loader of pools for defences; it gives none that clones are scored on."""

        def load_unseen(name: str, *, generator: torch.Generator, **options: Any) -> ImageSet:
            places = {key: options.pop(key) for key in ("root", "download") if key in options}
            options.pop("device", None)
            # unchecked: the loader of the data set checks the options by name and value
            spec = DataSpec.model_construct(use=name, params=options, **places)
            part = part_of_victims_data(plan.data, spec)
            pool = self.load_pool(plan, spec, generator=generator)
            if part not in (None, "train", "validation") or self._test_overlap(plan, pool):
                raise PlayerError(
                    f"a defence gets no images of '{plan.data.use}' on which it is measured: "
                    f"'{name}' holds some; take the split 'train' or 'validation'"
                )
            return pool

        return load_unseen

    def _options(self, spec: DataSpec) -> dict[str, Any]:
        """Turn a data table into arguments of the loader, which checks them by name and value."""
        return {
            "root": None if spec.root is None else Path(spec.root),
            "download": spec.download,
            "device": self.device,
            **spec.params,
        }


def _shares(count: int) -> str:
    return f"holds {count} of the images that clones are scored on; take other images"


def _given_normalisation(net: NetSpec) -> Normalisation | None:
    return None if net.normalise is None else (net.normalise.mean, net.normalise.std)


def _resampling(plan: EpisodePlan) -> int | None:
    """Return the seed by which the victim's data set is divided anew; None for its own division."""
    return Streams(plan.seed).integer("data") if plan.data.resample else None
