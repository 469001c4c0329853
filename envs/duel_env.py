"""Both sides of the game as a PettingZoo environment, whose players move at once."""

import secrets
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv
from torch import Tensor, nn

from envs.defences.base import Defence
from envs.errors import PlayerError
from envs.extraction_env import (
    accuracy_of,
    answer_space,
    arrays,
    asked,
    padded,
    played,
    query_space,
)
from envs.game.counters import compute_share, wrong_share
from envs.game.extraction_game import ExtractionGame
from envs.game.game_factory import GameFactory, GameSpec, check_counts, check_defences
from envs.game.reset_inputs import checked_clone, checked_seed, clone_of, require_moves
from envs.game.rounds import Countermeasure, Served, View
from envs.seeding import Streams
from envs.types import Response, ThreatModel

ATTACKER, DEFENDER = "attacker", "defender"

# `Any` in this file: observations and actions are NumPy arrays of whatever dtype their space has.
Observation = dict[str, Any]


class _MovedDefender:
    """A defender that answers a round by the agent's move, and remembers it."""

    def __init__(self) -> None:
        self.move = Countermeasure()
        self.refused: Set[int] = frozenset()
        self.closed: Set[int] = frozenset()
        self.served: list[Served] = []

    def act(self, view: View) -> Countermeasure:
        if view.client in self.closed:
            return replace(self.move, cut_off=True)
        return replace(self.move, refuse=True) if view.client in self.refused else self.move

    def learn(self, served: Served) -> None:
        self.served.append(served)


class DuelEnv(ParallelEnv[str, Observation, Any]):  # type: ignore[misc] # it has no types
    """Copy a classifier, or keep it from being copied.

    The attacker sends a batch of images; the defender says by which of its defences, and how
    strongly, this round's requests are answered, the attacker's and benign users' alike. Neither
    sees the other's move before its own.

    ## Action Spaces
    `attacker`: `Box(0, 1, (batch, channels, height, width), float32)`, and with more than one
    account a `Dict` as in `envs.extraction_env.ExtractionEnv`. `defender`:
    `Dict(defence=Discrete(defences), strength=Box(0, 1, (1,)))`. With `refusals=True` also
    `refuse=MultiBinary(numbers), cut_off=MultiBinary(numbers)`: which clients, by the numbers that
    it observes, get no answer in this round, or none any more.

    ## Observation Spaces
    `attacker`: as in `envs.extraction_env.ExtractionEnv`. `defender`: what its server saw of the
    last round, in an order that tells nothing: `Dict(images=Box(0, 1, (window, ...)),
    posteriors=Box(0, 1, (window, classes)), exits=Box(-1, exits - 1, (window,)),
    clients=Box(-1, 255, (window,)), answered=Box(0, inf, (1,)))`. Rows behind the last request are
    zeros, and -1 for exits and clients. A client's number is drawn anew for every episode, of more
    than 255 where there are more than 128 accounts.

    ## Rewards
    `attacker`: the increase of the submitted clone's accuracy since it was last measured,
    every `measure_every` rounds and at the end. `defender`: the same with the sign turned round,
    minus `utility_price` for each share of this round's benign users answered wrongly, minus
    `compute_price` for the share of the whole network that this round's answers cost.

    ## Starting State
    An unspent budget; `reset(seed=...)` fixes every random stream.

    ## Episode End
    Both are `terminated` when the budget is spent or every account of the attacker's is cut off,
    and gone from `agents`.

    ## Arguments
    `spec`: what is played with. `defences`: what the defender brings. `batch`, `measure_every`,
    `utility_price`, `compute_price`, `refusals`. Submit the attacker's clone with `submit(clone)`.

    ## Version History
    v0: first version.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "arena/Duel-v0", "render_modes": []}

    def __init__(
        self,
        spec: GameSpec | None = None,
        *,
        defences: Sequence[Defence] = (),
        batch: int = 64,
        measure_every: int = 10,
        utility_price: float = 0.0,
        compute_price: float = 0.0,
        refusals: bool = False,
    ) -> None:
        spec = spec or GameSpec()
        check_counts(batch=batch, measure_every=measure_every)
        check_defences(defences)
        self._games = GameFactory(spec, defences or [Defence()])
        self._batch, self._measure_every = batch, measure_every
        self._prices = utility_price, compute_price
        # each account that a batch is asked from anew draws benign users' requests beside it
        asked = batch * (spec.accounts if refusals else 1)
        benign = 0 if spec.benign == 0 else int(asked * spec.benign / (1 - spec.benign)) + 1
        self._window = batch + benign
        self._clone: nn.Module | None = None
        self._last: Streams | None = None
        self.render_mode = None
        self.possible_agents = [ATTACKER, DEFENDER]
        self.agents: list[str] = []
        self.observation_spaces = {
            ATTACKER: answer_space(self._games.threat, batch),
            DEFENDER: _server_space(self._games, self._window),
        }
        moves: dict[str, spaces.Space[Any]] = {
            "defence": spaces.Discrete(len(self._games.deployed_defences)),
            "strength": spaces.Box(0.0, 1.0, (1,), np.float32),
        }
        self._refusals = refusals
        if refusals:
            count = _numbers(self._games.threat)
            moves |= {name: spaces.MultiBinary(count) for name in ("refuse", "cut_off")}
        self.action_spaces = {
            ATTACKER: query_space(self._games.threat, batch),
            DEFENDER: spaces.Dict(moves),
        }

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Give what a player sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Give what a player may do."""
        return self.action_spaces[agent]

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may ask, and what an answer shows: a copy at each look."""
        return replace(self._games.threat)

    def submit(self, clone: nn.Module) -> None:
        """Submit the clone to measure: a module from (n, c, h, w) in [0, 1] to logits."""
        self._clone = checked_clone(clone)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode; without a seed one that follows from the last, the first at random."""
        seed, clone = checked_seed(seed), clone_of(options)
        if seed is None:
            seed = secrets.randbits(63) if self._last is None else self._last.integer("next")
        self._last = streams = Streams(seed)
        if clone is not None:
            self.submit(clone)
        self._defender = _MovedDefender()
        self._game = self._games.new_game(self._defender, streams)
        self._order = streams.torch("duel")
        self._numbers = torch.randperm(_numbers(self.threat), generator=self._order).tolist()
        self._shown: dict[int, int] = {}  # by the game's own number of a client
        self._rounds, self._accuracy = 0, 0.0
        self._before = self._game.tally()
        self.agents = list(self.possible_agents)
        return self._observe(None), {agent: self._info() for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play one round.

        Raises:
            QueryError, PlayerError: a move that is none; nothing was charged or changed.
        """
        if not self.agents:
            raise gymnasium.error.ResetNeeded("the budget is spent; call reset() first")
        require_moves(actions, (ATTACKER, DEFENDER))
        query = asked(actions[ATTACKER], self._game, self._batch)
        defender, move = self._defender, actions[DEFENDER]
        defender.move, defender.served = self._move(move), []
        defender.refused, defender.closed = (
            self._named(move, "refuse"),
            self._named(move, "cut_off"),
        )
        response = played(self._game, *query)
        self._rounds += 1
        rewards = self._rewards()
        observations, over = self._observe(response), self._game.over
        ended = dict.fromkeys(self.agents, over)
        infos = {agent: self._info() for agent in self.agents}
        truncated = dict.fromkeys(self.agents, False)
        if over:
            self.agents = []
        return observations, rewards, ended, truncated, infos

    def _move(self, action: Mapping[str, Any]) -> Countermeasure:
        defence, strength = (
            int(action["defence"]),
            float(np.asarray(action["strength"]).reshape(-1)[0]),
        )
        if not 0 <= defence < len(self._games.deployed_defences) or not 0 <= strength <= 1:
            raise PlayerError(
                f"expected a defence from 0 to {len(self._games.deployed_defences) - 1} and a "
                f"strength in [0, 1], "
                f"got {defence} and {strength}"
            )
        return Countermeasure(defence, strength)

    def _named(self, action: Mapping[str, Any], measure: str) -> Set[int]:
        """Return the clients, by the game's own numbers, that a move names."""
        if not self._refusals:
            return frozenset()
        marked = np.flatnonzero(np.asarray(action[measure]).reshape(-1)).tolist()
        return {client for client, number in self._shown.items() if number in marked}

    def _rewards(self) -> dict[str, float]:
        gained = 0.0
        if self._game.over or self._rounds % self._measure_every == 0:
            before = self._accuracy
            if self._clone is not None:
                self._accuracy = accuracy_of(self._clone, self._games.splits, self._game)
            gained = self._accuracy - before
        now = self._game.tally()
        utility, compute = self._prices
        paid = utility * wrong_share(self._before, now)
        paid += compute * compute_share(self._before, now, self._games.whole_macs)
        self._before = now
        return {ATTACKER: gained, DEFENDER: -gained - paid}

    def _observe(self, response: Response | None) -> dict[str, Observation]:
        attacker = arrays(padded(self._game, response, self._batch))
        return {ATTACKER: attacker, DEFENDER: arrays(self._seen_by_server())}

    def _seen_by_server(self) -> dict[str, Tensor]:
        """Lay out the last round's requests, in an order that does not tell who asked first."""
        shape, window = self.threat.image_shape, self._window
        seen = {
            "images": torch.zeros(window, *shape),
            "posteriors": torch.zeros(window, self.threat.num_classes),
            "exits": torch.full((window,), -1, dtype=torch.int64),
            "clients": torch.full((window,), -1, dtype=torch.int64),
            "answered": torch.tensor([float(self._answered())], dtype=torch.float32),
        }
        served = self._defender.served
        if not served:
            return seen
        clients = [torch.full((len(s.exits),), self._shown_number(s.view.client)) for s in served]
        columns = {
            "images": torch.cat([s.view.images for s in served]).cpu(),
            "posteriors": torch.cat([s.posteriors for s in served]).cpu(),
            "exits": torch.cat([s.exits for s in served]).cpu(),
            "clients": torch.cat(clients),
        }
        order = torch.randperm(len(columns["exits"]), generator=self._order)
        for name, values in columns.items():
            seen[name][: len(order)] = values[order]
        return seen

    def _shown_number(self, client: int) -> int:
        return self._shown.setdefault(client, self._numbers[len(self._shown)])

    def _answered(self) -> int:
        tally = self._before
        return tally.attack.answered + tally.benign.answered

    def _info(self) -> dict[str, Any]:
        game: ExtractionGame = self._game
        return {
            "queries_used": game.used,
            "queries_left": game.remaining,
            "clone_accuracy": self._accuracy,
        }


def _numbers(threat: ThreatModel) -> int:
    """Return out of how many numbers those of clients are drawn: the accounts and a benign user."""
    return max(256, 2 * threat.accounts)


def _server_space(table: GameFactory, window: int) -> spaces.Dict:
    exits = max(defence.victim.num_exits for defence in table.deployed_defences)
    threat = table.threat
    return spaces.Dict(
        {
            "images": spaces.Box(0.0, 1.0, (window, *threat.image_shape), np.float32),
            "posteriors": spaces.Box(0.0, 1.0, (window, threat.num_classes), np.float32),
            "exits": spaces.Box(-1, exits - 1, (window,), np.int64),
            "clients": spaces.Box(-1, _numbers(threat) - 1, (window,), np.int64),
            "answered": spaces.Box(0.0, np.inf, (1,), np.float32),
        }
    )
