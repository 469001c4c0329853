"""How long an answer takes: a modelled server, and a network in between.

Everything is in float64 seconds. Chance is counter-based (Philox; the key is the episode's seed,
the counter the index of the query), so a query's noise depends neither on how queries are split
into requests nor on anything else that is drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor

from envs.errors import UnknownName
from envs.nets.exit_cost import ExitProfile

Returns = Literal["each", "per_exit", "end_of_batch"]
JitterFamily = Literal["exponential", "lognormal", "gaussian"]
Load = Literal["quiet", "shared", "noisy"]
Noise = Annotated[float, Ge(0), Le(10)]  # exp(10 deviations of 10) is still a finite time
Floats = NDArray[np.float64]

DRIFTS: Mapping[Load, float] = {"quiet": 0.0, "shared": 0.15, "noisy": 0.35}
"""Standard deviation of the slow drift of log service time, by how busy the machine is."""

_HISTORY = 64  # innovations a drift is made of; 0.65**64 is 1e-12
_WORDS = 8  # random words per query: service, drift, jitter, spike, window, three unused


class ServiceCost(Protocol):
    """What a server spends on a request: a part per request and a part per image; hashable."""

    def __hash__(self) -> int: ...

    def per_request(self, profile: ExitProfile) -> tuple[float, ...]:
        """Return the cumulative seconds of a request that reaches each exit."""
        ...

    def per_image(self, profile: ExitProfile) -> tuple[float, ...]:
        """Return the cumulative seconds one more image costs that leaves at each exit."""
        ...


@dataclass(frozen=True, slots=True)
class ShareCost:
    """The simple channel: a constant, and a time in proportion to the share of MACs.

    Args:
        overhead: seconds per request.
        whole: seconds of the whole network on one image.
    """

    overhead: float = 1e-3
    whole: float = 4e-3

    def per_request(self, profile: ExitProfile) -> tuple[float, ...]:
        """Return the overhead."""
        return (self.overhead,) * len(profile.macs)

    def per_image(self, profile: ExitProfile) -> tuple[float, ...]:
        """Return the share of the whole network's time."""
        return tuple(self.whole * macs / profile.macs[-1] for macs in profile.macs)


@dataclass(frozen=True, slots=True)
class DeviceCost:
    """A device: overhead + per_op * operations + per_byte * weights + FLOP / rate (FLOP = 2 MAC).

    Operations and weights matter: small-batch time on an accelerator follows the number of
    kernels, and late stages are slower per FLOP because their weights leave the cache.
    """

    overhead: float
    per_op: float
    per_byte: float
    flops_per_second: float

    def per_request(self, profile: ExitProfile) -> tuple[float, ...]:
        """Return overhead, launches and reading the weights, once per request."""
        pairs = zip(profile.ops, profile.weight_bytes, strict=True)
        return tuple(
            self.overhead + self.per_op * ops + self.per_byte * size for ops, size in pairs
        )

    def per_image(self, profile: ExitProfile) -> tuple[float, ...]:
        """Return the arithmetic."""
        return tuple(2 * macs / self.flops_per_second for macs in profile.macs)


COSTS: Mapping[str, ServiceCost] = {
    "simple": ShareCost(),
    "cpu": DeviceCost(overhead=1e-4, per_op=15e-6, per_byte=1e-10, flops_per_second=40e9),
    "gpu": DeviceCost(overhead=2e-5, per_op=6e-6, per_byte=2.5e-13, flops_per_second=30e12),
}
"""Servers by name. "cpu" is one core, "gpu" an estimate at batch 1, where launches set the pace."""


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Service time: cost of the exit times lognormal noise times a slow drift.

    Args:
        cost: the server.
        noise: standard deviation of the logarithm, independent from query to query.
        drift: standard deviation of the logarithm of an AR(1) process over queries.
        memory: its correlation from one query to the next.
        returns: "each" serves the images of a request one by one. "per_exit" serves them as a
            batch that shrinks and sends answers as they leave; "end_of_batch" sends all at the
            end. The last two make an answer's time depend on its neighbours.

    Raises:
        ValueError: a deviation below 0 or a memory outside [0, 1).
    """

    cost: ServiceCost = field(default_factory=ShareCost)
    noise: float = 0.05
    drift: float = 0.0
    memory: float = 0.65
    returns: Returns = "each"

    def __post_init__(self) -> None:
        if self.noise < 0 or self.drift < 0:
            raise ValueError(f"expected deviations of at least 0, got {self.noise}, {self.drift}")
        if not 0 <= self.memory < 1:
            raise ValueError(f"expected a memory in [0, 1), got {self.memory}")

    def seconds(self, exits: Tensor, profile: ExitProfile, *, seed: int, first: int) -> Tensor:
        """Return the service time of the answers of one request.

        Args:
            exits: (n,) int64, where they left.
            profile: what each exit costs.
            seed: of the episode's latency.
            first: index of the request's first query in the episode.

        Returns:
            (n,) float64 on the exits' device; no waiting for it.
        """
        factor = torch.from_numpy(self._factor(seed, first, len(exits))).to(exits.device)
        base = self._base(exits, profile)
        return base * (factor[0] if self.returns == "end_of_batch" else factor)

    def expected(self, profile: ExitProfile, *, deviations: float = 0.0) -> tuple[float, ...]:
        """Return the seconds of each exit at batch 1, so many standard deviations above the median.

        With `deviations` of 4 they serve as deadlines for padding: one answer in 30,000 is later.
        """
        request, image = self.cost.per_request(profile), self.cost.per_image(profile)
        headroom = math.exp(deviations * math.hypot(self.noise, self.drift))
        return tuple((a + b) * headroom for a, b in zip(request, image, strict=True))

    def _base(self, exits: Tensor, profile: ExitProfile) -> Tensor:
        """Return the (n,) seconds without noise."""
        request, image = _tables(self.cost, profile, exits.device)
        if self.returns == "each":
            return (request + image)[exits]
        numbers = torch.arange(len(request), device=exits.device)
        alive = (exits[:, None] >= numbers).sum(0)  # images that each segment works on
        segments = torch.diff(image, prepend=image.new_zeros(1))
        reached = (request + (alive * segments).cumsum(0))[exits]
        return reached if self.returns == "per_exit" else reached.amax().expand_as(reached)

    def _factor(self, seed: int, first: int, count: int) -> Floats:
        """Return the (count,) noise that multiplies the service time."""
        log = self.noise * _quantile(uniforms(seed, first, count)[:, 0])
        if self.drift:
            log = log + self.drift * _correlated(seed, first, count, memory=self.memory)
        return np.asarray(np.exp(log), dtype=np.float64)


def make_model(
    server: str = "simple",
    *,
    noise: Noise = 0.05,
    load: Load = "quiet",
    returns: Returns = "each",
) -> LatencyModel:
    """Build a model from a server of `COSTS` and a load of `DRIFTS`; UnknownName on a miss."""
    if server not in COSTS:
        raise UnknownName("server", server, COSTS)
    if load not in DRIFTS:
        raise UnknownName("load", load, DRIFTS)
    return LatencyModel(COSTS[server], noise=noise, drift=DRIFTS[load], returns=returns)


@dataclass(frozen=True, slots=True)
class Network:
    """What lies between a client and the server.

    It adds an unknown constant and noise; it cannot remove a gap between two exits.

    Args:
        round_trip: seconds, the floor.
        jitter: scale in seconds: mean of "exponential", median of "lognormal" (log deviation 1),
            standard deviation of "gaussian".
        family: distribution of the jitter; the first two only add.
        bytes_per_second: of the upload; an image travels as 8-bit pixels.
        spike_share: share of queries that wait another ten jitters.
        window: seconds a server may wait to fill a batch; adds a uniform delay.
    """

    round_trip: float
    jitter: float
    family: JitterFamily = "exponential"
    bytes_per_second: float = math.inf
    spike_share: float = 1e-3
    window: float = 0.0

    def deliver(
        self, seconds: Tensor, *, image_bytes: int, seed: int, first: int, together: bool = False
    ) -> Tensor:
        """Add the way to the server and back to (n,) service seconds.

        Args:
            seconds: (n,) float64.
            image_bytes: bytes of one image.
            seed: of the episode's latency.
            first: index of the request's first query in the episode.
            together: the images travel, and wait, as one message.
        """
        chance = uniforms(seed, first, len(seconds))
        delay = self._jitter(chance[:, 2]) + self.window * chance[:, 4]
        delay = delay + 10 * self.jitter * (chance[:, 3] < self.spike_share)
        load = image_bytes * (len(seconds) if together else 1) / self.bytes_per_second
        way = np.maximum(self.round_trip + load + delay, 0.0)
        if together:
            way = np.full_like(way, way[0])
        return seconds + torch.from_numpy(way).to(seconds.device)

    def _jitter(self, chance: Floats) -> Floats:
        if self.family == "exponential":
            return np.asarray(-self.jitter * np.log1p(-chance))
        normal = _quantile(chance)
        return self.jitter * (np.exp(normal) if self.family == "lognormal" else normal)


NETWORKS: Mapping[str, Network] = {
    "loopback": Network(0.05e-3, 0.01e-3, bytes_per_second=1e9),
    "lan": Network(0.3e-3, 0.1e-3, bytes_per_second=125e6),
    "wan": Network(20e-3, 1e-3, bytes_per_second=12.5e6),
    "mobile": Network(60e-3, 10e-3, bytes_per_second=2.5e6),
}
"""Networks by name, with exponential jitter."""


def make_channel(
    server: str = "simple",
    *,
    noise: Noise = 0.05,
    load: Load = "quiet",
    returns: Returns = "each",
    network: str | None = None,
) -> tuple[LatencyModel, Network | None]:
    """Build a model, and find what lies between a client and the server: one of `NETWORKS`.

    Raises:
        UnknownName: no such server, load or network.
    """
    if network is not None and network not in NETWORKS:
        raise UnknownName("network preset", network, NETWORKS)
    between = None if network is None else NETWORKS[network]
    return make_model(server, noise=noise, load=load, returns=returns), between


def uniforms(seed: int, first: int, count: int) -> Floats:
    """Draw (count, 8) numbers in (0, 1), a function of seed and query index alone.

    Args:
        seed: the key, 0 to 2**64 - 1.
        first: index of the first query, at least -64.
        count: queries.

    Source:
        Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    blocks = _WORDS // 4  # Philox4x64 gives four words per step of its counter
    generator = np.random.Philox(key=seed, counter=(first + _HISTORY) * blocks)
    words = generator.random_raw(count * _WORDS).reshape(count, _WORDS)
    return np.asarray(((words >> np.uint64(11)) + 0.5) * 2.0**-53, dtype=np.float64)


def _correlated(seed: int, first: int, count: int, *, memory: float) -> Floats:
    """Return (count,) values of a unit AR(1) process as a finite moving average of innovations.

    A recursion would need every value before; the average needs the last 64 innovations.
    """
    innovations = _quantile(uniforms(seed, first - _HISTORY, count + _HISTORY)[:, 1])
    weights = memory ** np.arange(_HISTORY + 1)
    weights /= np.sqrt(np.square(weights).sum())
    total = np.zeros(count)
    # summed term by term: a matrix product may round differently with the number of queries
    for lag, weight in enumerate(weights):
        start = _HISTORY - lag
        total += weight * innovations[start : start + count]
    return total


@lru_cache(maxsize=64)
def _tables(cost: ServiceCost, profile: ExitProfile, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return both parts of the cost by exit as (N,) float64 on the device, made once."""
    request = torch.tensor(cost.per_request(profile), dtype=torch.float64, device=device)
    return request, torch.tensor(cost.per_image(profile), dtype=torch.float64, device=device)


def _quantile(chance: Floats) -> Floats:
    """Return quantiles of the standard normal distribution."""
    from scipy.special import ndtri  # slow to load, and reading a scenario needs none

    return np.asarray(ndtri(chance))
