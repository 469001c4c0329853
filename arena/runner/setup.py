"""Builds what an episode needs: victims, deployed defences, clones, clock."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from arena.isolation.attacker import Contestant
from arena.registry import players
from arena.runner.contestant import contestant_of
from arena.runner.defender_setup import DefenderSetup, with_defender
from arena.runner.episode_images import EpisodeImages
from arena.runner.progress import Watcher
from arena.runner.remote import in_front_of, reach
from arena.scenario import EpisodePlan
from arena.scenario.planning import sources_of
from arena.scenario.schema_parts import NetSpec
from envs.data.images import ImageSet, Normalisation
from envs.defences.base import Clock, Defence, DeployedDefence
from envs.defences.harden_kit import HardenKit
from envs.defences.hardening import hardened_by
from envs.defences.needs import require_needs
from envs.game.clocks import make_clock
from envs.latency.model import make_channel
from envs.nets import registry
from envs.nets.exit_cost import ExitProfile
from envs.nets.given_weights import take_weights
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.checkpoint_file import JSON
from envs.training.checkpoints import counted_uses
from envs.training.recipes import recipe_of
from envs.training.victims import VictimTraining, remarks, train_victim
from envs.types import ThreatModel
from envs.victim.victim import Victim


class Setup:
    """Builds what an episode needs.

    Args:
        device: where networks and images live.
        watcher: sees what is being prepared.
        holds: whether really measured answers are held back until they are due; a server's are.

    Attributes:
        images: loads the images of episodes, and keeps them in between.
    """

    def __init__(self, device: torch.device, watcher: Watcher, *, holds: bool = False) -> None:
        self.device, self.watcher, self._holds = device, watcher, holds
        self.images = EpisodeImages(device)
        self._remarks: set[str] = set()

    def threat(self, plan: EpisodePlan) -> ThreatModel:
        """Return what the attacker may ask and see."""
        splits = self.images.splits(plan)
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
        splits = self.images.splits(plan)
        recipe = recipe_of(plan.victim.recipe, splits.image_shape)
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
        splits, spec = self.images.splits(plan), self.victim_spec(plan)
        report = self.watcher.line

        def fresh_victim() -> Victim:
            # hardening may touch its backbone, so that every defence gets a network of its own
            network = train_victim(splits, spec, device=self.device, report=report)
            return Victim(MultiExit(network, ()))

        self.watcher.phase(plan.title, "training victim")
        reference = fresh_victim()
        self._remark([*remarks(reference.network.backbone, splits), *self.images.remarks(plan)])
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
                sources=sources_of(plan, brought),
                load_pool=self.images.loader_for_defences(plan),
                report=report,
                expected=self._expected(plan),
            )
            fresh = fresh_victim()
            began = time.perf_counter()
            with counted_uses() as uses:
                victim = hardened_by(defence, fresh, kit, name=brought.use)
            self.images.require_unseen(plan, defence.trained_on)
            # what was trained elsewhere took another machine another time
            if uses.made or not uses.recalled:
                seconds += time.perf_counter() - began
            deployed_defences.append(DeployedDefence(brought.use, defence, victim, reference))
        return with_defender(
            plan, reference, deployed_defences, splits, device=self.device, seconds=seconds
        )

    def _set_up_elsewhere(self, plan: EpisodePlan) -> DefenderSetup:
        self._remark(self.images.remarks(plan))
        victim = reach(plan, self.threat(plan), self.device, self.watcher.line)
        splits = self.images.splits(plan)
        deployed = in_front_of(victim, plan, splits, self.device)
        return with_defender(plan, victim, deployed, splits, device=self.device, seconds=None)

    def _remark(self, lines: Iterable[str]) -> None:
        """Tell once what users should know of a victim, and of data, that are not ours."""
        for line in lines:
            if line not in self._remarks:
                self._remarks.add(line)
                self.watcher.line(line)

    def clock(self, plan: EpisodePlan, streams: Streams) -> Clock:
        """Build the clock: none, modelled, or the wall clock; and the network in between."""
        options: dict[str, Any] = dict(plan.latency)
        model, network = make_channel(**options)
        return make_clock(
            plan.threat.latency, streams, model=model, network=network, holds=self._holds
        )

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
        splits = self.images.splits(plan)
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


def _given_normalisation(net: NetSpec) -> Normalisation | None:
    return None if net.normalise is None else (net.normalise.mean, net.normalise.std)
