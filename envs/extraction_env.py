"""The attacker's side of the game as a Gymnasium environment."""

from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from envs.data.images import Splits
from envs.defences.base import Defence
from envs.errors import QueryError, Refused
from envs.game.accounts import whole_account
from envs.game.extraction_game import ExtractionGame
from envs.game.game_factory import GameFactory, GameSpec, check_counts, check_defences
from envs.game.reset_inputs import checked_clone, checked_seed, clone_of
from envs.game.rounds import Countermeasure, DefenderProtocol, Served, View
from envs.plain_tensors import plain_tensor, without_overrides
from envs.seeding import Streams
from envs.training.evaluation import clone_labels
from envs.training.recipes import Recipe
from envs.types import AccountPolicy, Labels, LatencyMode, Refusals, Response, ThreatModel

Observation = dict[str, Any]
"""NumPy arrays, or torch tensors on the device: hence Any."""

_BY_POLICY = -1
"""The account of an action that leaves it to the policy."""

LONGEST = 86_400.0
"""Seconds: the upper end of the latencies in the observation space."""


class _AlwaysFirst:
    """A defender that always uses the one defence, at full strength."""

    def act(self, view: View) -> Countermeasure:
        return Countermeasure()

    def learn(self, served: Served) -> None:
        return None


class ExtractionEnv(gymnasium.Env[Observation, Any]):
    """Copy a classifier through its answers, under a query budget.

    ## Action Space
    `Box(0, 1, (batch, channels, height, width), float32)`: a batch of images, as a NumPy array or
    a torch tensor. Fewer images than a batch may be sent. Of a batch larger than what is left,
    the first images are answered; the rows behind them are zeros. With more than one account
    `Dict(images=Box(...), account=Discrete(accounts + 1, start=-1))`: which account asks, and -1
    for `account_policy`. A batch that the defender refuses gets no answer: the rows are zeros.

    ## Observation Space
    `Dict(posteriors=Box(0, 1, (batch, classes)), latency=Box(0, 86400, (batch,)),
    remaining=Box(0, budget, (1,), int64))`. Latency is in seconds, and zeros where the threat
    model hides it. NumPy arrays; with `tensors=True` torch tensors on the device, not copied.

    ## Rewards
    The increase of the submitted clone's accuracy since it was last measured, every
    `measure_every` steps and at the end; so the return of an episode is the final accuracy. The
    final one is measured on the test images, those before it on the checkpoints' images.
    Submit your clone with `env.unwrapped.submit(clone)`; it is read, never changed.

    ## Starting State
    An unspent budget. `reset(seed=...)` fixes every random stream of the episode.

    ## Episode End
    `terminated` when the budget is spent, or every account is cut off; never `truncated`.

    ## Info
    Always the same keys: `answered` (images answered in this step), `refused` (whether the
    defender refused the batch), `queries_used`, `queries_left`, `macs` (spent on the attacker so
    far), `exits` (its answers by exit), `clone_accuracy` (last measured, 0 before). `macs` and
    `exits` are the simulator's knowledge, not the attacker's: a benign agent does not read them.

    ## Arguments
    `data`, `victim`, `victim_params`, `recipe`, `victim_seed`: what is trained (and cached) as
    the victim. `defence`: a `Defence`, hardened here. `budget`, `batch`, `labels`,
    `latency` ("none" or "virtual"), `benign` (share of benign traffic), `measure_every` (steps),
    `accounts`, `account_budget`, `account_policy` (see `envs.game.accounts`), `tensors`, `device`.
    `defender`: gives a fresh defender for each episode, an object with `act` and `learn` (see
    `envs.game.rounds.DefenderProtocol`); the one defence answers everything where it is absent.
    `refused` ("charged" or "free"): whether what the defender refuses is charged.
    With `tensors=True` make it with `disable_env_checker=True`: Gymnasium's checker knows arrays
    only.

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
        accounts: int = 1,
        account_budget: int | None = None,
        account_policy: AccountPolicy = "one",
        refused: Refusals = "charged",
        defender: Callable[[], DefenderProtocol] = _AlwaysFirst,
        tensors: bool = False,
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        check_counts(batch=batch, measure_every=measure_every)
        check_defences(() if defence is None else (defence,))
        spec = GameSpec(
            data=data,
            data_options=data_options,
            victim=victim,
            victim_params=victim_params,
            recipe=recipe,
            victim_seed=victim_seed,
            budget=budget,
            labels=labels,
            latency=latency,
            benign=benign,
            device=device,
            accounts=accounts,
            account_budget=account_budget,
            account_policy=account_policy,
            refused=refused,
        )
        self._defender = defender
        self._games = GameFactory(spec, [defence or Defence()])
        self._tensors = tensors
        self._batch, self._measure_every = batch, measure_every
        self._clone: nn.Module | None = None
        self._game: ExtractionGame | None = None
        self._steps, self._accuracy = 0, 0.0
        self.action_space = query_space(self._games.threat, batch)
        self.observation_space = answer_space(self._games.threat, batch)

    def submit(self, clone: nn.Module) -> None:
        """Submit the clone to measure: a module from (n, c, h, w) in [0, 1] to logits."""
        self._clone = checked_clone(clone)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"clone": module}` submits a clone."""
        seed, clone = checked_seed(seed), clone_of(options)
        super().reset(seed=seed)
        streams = Streams(seed if seed is not None else int(self.np_random.integers(2**31)))
        if clone is not None:
            self.submit(clone)
        self._game = self._games.new_game(self._defender(), streams)
        self._steps, self._accuracy = 0, 0.0
        return self._observe(None, 0), self._info(0, is_refused=False)

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Ask one batch. QueryError where it is refused; nothing is charged then."""
        if self._game is None or self._game.over:
            raise gymnasium.error.ResetNeeded("the budget is spent; call reset() first")
        response = played(self._game, *asked(action, self._game, self._batch))
        self._steps += 1
        measured = self._game.over or self._steps % self._measure_every == 0
        reward = self._reward() if measured else 0.0
        answered = 0 if response is None else len(response.posteriors)
        info = self._info(answered, is_refused=response is None)
        return self._observe(response, answered), reward, self._game.over, False, info

    def _reward(self) -> float:
        before, game = self._accuracy, cast(ExtractionGame, self._game)
        if self._clone is not None:
            self._accuracy = accuracy_of(self._clone, self._games.splits, game)
        return self._accuracy - before

    def _observe(self, response: Response | None, answered: int) -> Observation:
        game = cast(ExtractionGame, self._game)
        seen = padded(game, response, self._batch)
        return seen if self._tensors else arrays(seen)

    def _info(self, answered: int, *, is_refused: bool) -> dict[str, Any]:
        game = cast(ExtractionGame, self._game)
        exits, macs = game.attack_counters()
        return {
            "answered": answered,
            "refused": is_refused,
            "queries_used": game.used,
            "queries_left": game.remaining,
            "macs": macs if self._tensors else float(macs),
            "exits": exits if self._tensors else exits.cpu().numpy(),
            "clone_accuracy": self._accuracy,
        }


def played(game: ExtractionGame, images: Tensor, account: int | None) -> Response | None:
    """Ask a batch; None where the defender refuses it. Raises as `ExtractionGame.play`."""
    if game.room_of(account) == 0:
        return None
    try:
        return game.play(images, account)
    except Refused:
        return None


def accuracy_of(clone: nn.Module, splits: Splits, game: ExtractionGame) -> float:
    """Measure a clone's share of right labels, while the game answers nobody.

    While the budget lasts it is measured on the checkpoints' images, then on the test images.

    Raises:
        PlayerError: its answers are not (n, classes) finite floats.
    """
    images = splits.test if game.over else splits.checkpoint
    with game.suspended():
        labels = clone_labels(clone, images.pixels, images.num_classes)
        with without_overrides():
            return (labels == images.labels).double().mean().item()


def query_space(threat: ThreatModel, batch: int) -> spaces.Space[Any]:
    """Give the space of an attacker's action: a batch of images, and who asks if there are more."""
    images = spaces.Box(0.0, 1.0, (batch, *threat.image_shape), np.float32)
    if threat.accounts == 1:
        return images
    account = spaces.Discrete(threat.accounts + 1, start=_BY_POLICY)
    return spaces.Dict({"images": images, "account": account})


def answer_space(threat: ThreatModel, batch: int) -> spaces.Dict:
    """Give the space of what an attacker sees of a batch."""
    return spaces.Dict(
        {
            "posteriors": spaces.Box(0.0, 1.0, (batch, threat.num_classes), np.float32),
            "latency": spaces.Box(0.0, LONGEST, (batch,), np.float64),
            "remaining": spaces.Box(0, threat.budget, (1,), np.int64),
        }
    )


def padded(game: ExtractionGame, response: Response | None, batch: int) -> dict[str, Tensor]:
    """Lay an answer out as an observation of fixed shape; rows without an answer are zeros.

    Args:
        game: tells device, threat model and remaining budget.
        response: what was answered; None before the first query, and where it is refused.
        batch: rows of the observation.
    """
    answered = 0 if response is None else len(response.posteriors)
    posteriors = torch.zeros(batch, game.threat.num_classes, device=game.device)
    latency = torch.zeros(batch, dtype=torch.float64, device=game.device)
    if response is not None:
        if answered == batch:
            posteriors = response.posteriors
        else:
            posteriors[:answered] = response.posteriors
        if game.threat.latency_visible:
            latency[:answered] = response.latency
    remaining = torch.tensor([game.remaining], dtype=torch.int64)
    return {"posteriors": posteriors, "latency": latency, "remaining": remaining}


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Copy tensors to NumPy arrays of their own dtypes (hence `Any`)."""
    return {name: value.cpu().numpy() for name, value in tensors.items()}


def asked(action: object, game: ExtractionGame, batch: int) -> tuple[Tensor, int | None]:
    """Read an attacker's action: its images, as far as the budget lasts, and the account that asks.

    Raises:
        QueryError: it is none, or has more images than a batch.
    """
    account: int | None = None
    if isinstance(action, Mapping):
        if set(action) != {"images", "account"}:
            raise QueryError(f"expected 'images' and 'account', got {sorted(map(str, action))}")
        account = whole_account(action["account"])
        account, action = None if account == _BY_POLICY else account, action["images"]
    images = as_images(action)
    if images.ndim == 4:
        if len(images) > batch:
            raise QueryError(f"expected at most {batch} images, got {len(images)}")
        images = images[: game.room_of(account) or len(images)]
    return images, account


def as_images(action: object) -> Tensor:
    """Take a batch of images as a NumPy array or a torch tensor; the game checks the rest."""
    if isinstance(action, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(action))
    try:
        return plain_tensor(action)
    except TypeError as error:
        raise QueryError(f"expected a NumPy array or a torch tensor, got {error}") from error
