"""The attacker's chair as a Gymnasium environment."""

from collections.abc import Mapping
from typing import Any, SupportsFloat, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from envs.clocks import make_clock
from envs.data.sources import load
from envs.defences.base import Defence, HardenKit, Post
from envs.errors import QueryError
from envs.game import Countermeasure, ExtractionGame, Served, View
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.traffic import BenignTraffic
from envs.training.loop import evaluate
from envs.training.recipes import Recipe, recipe_for
from envs.training.victims import VictimSpec, train_victim
from envs.types import Labels, LatencyMode, Response, ThreatModel
from envs.victim import Victim

Observation = dict[str, Any]
"""NumPy arrays, or torch tensors on the device: hence Any."""

LONGEST = 86_400.0
"""Seconds: the upper end of the latencies in the observation space."""


class _AlwaysFirst:
    """The defender's chair while nobody sits in it: the one defence, at full strength."""

    def act(self, view: View) -> Countermeasure:
        return Countermeasure()

    def learn(self, served: Served) -> None:
        return None


class ExtractionEnv(gymnasium.Env[Observation, Any]):
    """Copy a classifier through its answers, under a query budget.

    ## Action Space
    `Box(0, 1, (batch, channels, height, width), float32)`: a batch of images, as a NumPy array or
    a torch tensor. Fewer images than a batch may be sent. Of a batch larger than what is left,
    the first images are answered; the rows behind them are zeros.

    ## Observation Space
    `Dict(targets=Box(0, 1, (batch, classes)), latency=Box(0, 86400, (batch,)),
    remaining=Box(0, budget, (1,), int64))`. Latency is in seconds, and zeros where the threat
    model hides it. NumPy arrays; with `tensors=True` torch tensors on the device, not copied.

    ## Rewards
    The increase of the submitted clone's test accuracy since it was last measured, every
    `measure_every` steps and at the end; so the return of an episode is the final accuracy.
    Hand your clone in with `env.unwrapped.submit(clone)`; it is read, never changed.

    ## Starting State
    An unspent budget. `reset(seed=...)` fixes every random stream of the episode.

    ## Episode End
    `terminated` when the budget is spent; never `truncated`.

    ## Info
    Always the same keys: `answered` (images answered in this step), `queries_used`,
    `queries_left`, `macs` (spent on the attacker so far), `exits` (its answers by exit),
    `clone_accuracy` (last measured, 0 before). `macs` and `exits` are the simulator's
    knowledge, not the attacker's: an honest agent does not read them.

    ## Arguments
    `data`, `victim`, `victim_params`, `recipe`, `victim_seed`: what is trained (and cached) as
    the victim. `defence`: a `Defence`, hardened here. `budget`, `batch`, `labels`,
    `latency` ("none" or "virtual"), `benign` (share of honest traffic), `measure_every` (steps),
    `tensors`, `device`. With `tensors=True` make it with `disable_env_checker=True`: Gymnasium's
    checker knows arrays only.

    ## Version History
    v0: first version.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - the base class declares it so

    def __init__(
        self,
        *,
        data: str = "digits",
        data_options: Mapping[str, Any] | None = None,
        victim: str = "resnet10",
        victim_params: Mapping[str, Any] | None = None,
        recipe: Recipe | None = None,
        victim_seed: int = 0,
        defence: Defence | None = None,
        budget: int = 20_000,
        batch: int = 64,
        labels: Labels = "soft",
        latency: LatencyMode = "none",
        benign: float = 0.0,
        measure_every: int = 10,
        tensors: bool = False,
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self._device = torch.device(device)
        self._splits = load(data, device=device, **dict(data_options or {}))
        spec = VictimSpec(
            network=victim,
            params=dict(victim_params or {}),
            recipe=recipe or recipe_for(self._splits.image_shape),
            seed=victim_seed,
        )
        self._post = self._harden(defence or Defence(), spec)
        self._threat = ThreatModel(
            num_classes=self._splits.test.num_classes,
            image_shape=self._splits.test.image_shape,
            budget=budget,
            labels=labels,
            latency_visible=latency != "none",
        )
        self._latency, self._benign, self._tensors = latency, benign, tensors
        self._batch, self._measure_every = batch, measure_every
        self._clone: nn.Module | None = None
        self._game: ExtractionGame | None = None
        self._steps, self._accuracy = 0, 0.0
        self.action_space = spaces.Box(0.0, 1.0, (batch, *self._threat.image_shape), np.float32)
        self.observation_space = spaces.Dict(
            {
                "targets": spaces.Box(0.0, 1.0, (batch, self._threat.num_classes), np.float32),
                "latency": spaces.Box(0.0, LONGEST, (batch,), np.float64),
                "remaining": spaces.Box(0, budget, (1,), np.int64),
            }
        )

    def _harden(self, defence: Defence, spec: VictimSpec) -> Post:
        network = train_victim(self._splits, spec, device=self._device)
        kit = HardenKit(
            data=self._splits,
            streams=Streams(spec.seed).child("harden"),
            device=self._device,
            victim_key=spec.key(self._splits),
        )
        return Post("defence", defence, defence.harden(Victim(MultiExit(network, ())), kit))

    def submit(self, clone: nn.Module) -> None:
        """Hand in the clone that is measured: a module from (n, c, h, w) in [0, 1] to logits."""
        self._clone = clone

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"clone": module}` submits a clone."""
        super().reset(seed=seed)
        streams = Streams(seed if seed is not None else int(self.np_random.integers(2**31)))
        if options and "clone" in options:
            self.submit(options["clone"])
        self._game = ExtractionGame(
            self._threat,
            [self._post],
            _AlwaysFirst(),
            clock=make_clock(self._latency, streams),
            streams=streams,
            traffic=self._traffic(streams),
        )
        self._steps, self._accuracy = 0, 0.0
        return self._observe(None, 0), self._info(0)

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Ask one batch. QueryError where it is no batch of images; nothing is charged then."""
        if self._game is None or self._game.over:
            raise gymnasium.error.ResetNeeded("the budget is spent; call reset() first")
        images = as_images(action)
        if images.ndim == 4:
            if len(images) > self._batch:
                raise QueryError(f"expected at most {self._batch} images, got {len(images)}")
            images = images[: self._game.remaining]
        response = self._game.play(images)
        self._steps += 1
        measured = self._game.over or self._steps % self._measure_every == 0
        reward = self._reward() if measured else 0.0
        answered = len(response.targets)
        info = self._info(answered)
        return self._observe(response, answered), reward, self._game.over, False, info

    def _traffic(self, streams: Streams) -> BenignTraffic | None:
        if self._benign == 0:
            return None
        return BenignTraffic(
            self._splits.test, share=self._benign, generator=streams.torch("traffic")
        )

    def _reward(self) -> float:
        before = self._accuracy
        if self._clone is not None:
            test = self._splits.test
            self._accuracy = evaluate(self._clone, test.pixels, test.labels)
        return self._accuracy - before

    def _observe(self, response: Response | None, answered: int) -> Observation:
        threat, game = self._threat, cast(ExtractionGame, self._game)
        targets = torch.zeros(self._batch, threat.num_classes, device=self._device)
        latency = torch.zeros(self._batch, dtype=torch.float64, device=self._device)
        if response is not None:
            if answered == self._batch:
                targets = response.targets
            else:
                targets[:answered] = response.targets
            if threat.latency_visible:
                latency[:answered] = response.latency
        if self._tensors:
            remaining: Any = torch.tensor([game.remaining], dtype=torch.int64)
            return {"targets": targets, "latency": latency, "remaining": remaining}
        return {
            "targets": targets.cpu().numpy(),
            "latency": latency.cpu().numpy(),
            "remaining": np.array([game.remaining], dtype=np.int64),
        }

    def _info(self, answered: int) -> dict[str, Any]:
        game = cast(ExtractionGame, self._game)
        exits, macs = game.attack_counters()
        return {
            "answered": answered,
            "queries_used": game.used,
            "queries_left": game.remaining,
            "macs": macs if self._tensors else float(macs),
            "exits": exits if self._tensors else exits.cpu().numpy(),
            "clone_accuracy": self._accuracy,
        }


def as_images(action: object) -> Tensor:
    """Take a batch of images as a NumPy array or a torch tensor; the game checks the rest."""
    if isinstance(action, Tensor):
        return action
    if isinstance(action, np.ndarray):
        return torch.from_numpy(action)
    raise QueryError(f"expected a NumPy array or a torch tensor, got {type(action).__name__}")
