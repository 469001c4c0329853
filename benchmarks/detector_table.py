"""Makes the table of docs/defenders.md: what a drift test finds in benign and in attack queries.

    python -m benchmarks.detector_table [--seeds 0 1 2] [--only TEXT] [--write]

Benign clients ask digits, digits with odd images among them, or odd images alone; attackers have
their first 6,000 queries. Every client's queries go through one `DriftTest` with the settings of
`Detector`; nothing is countered. Minutes on one core, most of them for DFMS-HL.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.attackers.dfme import DFME
from agents.attackers.dfms_hl import DFMSHL
from agents.attackers.knockoff import Knockoff
from agents.attackers.noise import Noise
from agents.attackers.random_generator import RandomGenerator
from agents.base import Attacker, Kit
from agents.defenders.query_drift import DriftTest
from agents.defenders.static import Static
from envs.data.images import ImageSet
from envs.data.sources import load, load_pool
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Round
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.recipes import recipe_for
from envs.training.victims import VictimTraining, train_victim
from envs.types import ThreatModel
from envs.victim.victim import Victim

NORMALITY, BAND = 0.85, (0.9, 1.7)
REQUEST, ATTACK_QUERIES = 64, 6000
PAGE = Path(__file__).parents[1] / "docs" / "defenders.md"
CPU = torch.device("cpu")

Answerer = Callable[[Tensor], Tensor]
"""Gives the served labels of (n, c, h, w) images."""


@dataclass
class Finding:
    """What the tests of some clients found.

    Attributes:
        queries, tests: how many there were.
        lowest: coefficient of normality.
        least, most: of the median distances.
        shape, place: queries of a client at its first alarm of that kind, the earliest and the
            latest over the clients that raised one; and how many tests raised one.
    """

    queries: int = 0
    tests: int = 0
    lowest: float = math.inf
    least: float = math.inf
    most: float = -math.inf
    shape: tuple[int, ...] = ()
    place: tuple[int, ...] = ()
    alarms: int = 0
    clients: int = 0


class Client:
    """One client's queries under test; an observer of its game, too."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding
        self._test = DriftTest(normality=NORMALITY, band=BAND, window=200, every=100, memory=600)
        self._seen: set[str] = set()
        finding.clients += 1

    def on_round(self, round: Round) -> None:
        """Look at the attacker's request and its answers."""
        self.ask(round.attack.images, round.attack.posteriors.argmax(1))

    def ask(self, images: Tensor, labels: Tensor) -> None:
        """Look at a request and the labels that were served."""
        found = self._finding
        found.queries += len(images)
        for one in self._test.add(images, labels):
            found.tests += 1
            found.lowest = min(found.lowest, one.normality)
            found.least, found.most = min(found.least, one.median), max(found.most, one.median)
            shape, place = one.normality < NORMALITY, not BAND[0] <= one.median <= BAND[1]
            found.alarms += shape or place
            if shape and "shape" not in self._seen:
                found.shape += (one.asked,)
            if place and "place" not in self._seen:
                found.place += (one.asked,)
            self._seen |= {name for name, on in (("shape", shape), ("place", place)) if on}


class Row(NamedTuple):
    """A row of the table: its title, and how it is measured over some seeds."""

    title: str
    measure: Callable[[Sequence[int]], Finding]


def victim() -> Victim:
    """Train the victim, or recall it: `resnet10-half` on digits, seed 0."""
    digits = load("digits")
    spec = VictimTraining("resnet10-half", recipe_for(digits.image_shape), seed=0)
    network = train_victim(digits, spec, device=CPU, report=lambda line: None)
    return Victim(MultiExit(network, ()))


def asked(answerer: Answerer, images: Tensor, client: Client) -> None:
    """Let a client ask images in their order, in requests."""
    for part in images.split(REQUEST):
        client.ask(part, answerer(part))


def benign_clients(answerer: Answerer, images: Tensor, clients: int, *, seed: int = 0) -> Finding:
    """Let so many clients ask all images, each in an order of its own."""
    finding, generator = Finding(), Streams(seed).torch("orders")
    for _ in range(clients):
        order = torch.randperm(len(images), generator=generator)
        asked(answerer, images[order], Client(finding))
    return finding


def one_client(answerer: Answerer, streams: Iterator[Tensor]) -> Finding:
    """Let one client ask everything."""
    finding = Finding()
    client = Client(finding)
    for images in streams:
        asked(answerer, images, client)
    return finding


def again(images: Tensor, times: int, *, seed: int = 0) -> Iterator[Tensor]:
    """Give the same images again and again, each time in another order."""
    generator = Streams(seed).torch("orders")
    for _ in range(times):
        yield images[torch.randperm(len(images), generator=generator)]


def moved(images: Tensor, count: int, *, seed: int = 0) -> Iterator[Tensor]:
    """Give images turned by up to 10 degrees and shifted by up to half a pixel, all different."""
    generator = Streams(seed).torch("moves")
    for start in range(0, count, 1000):
        size = min(1000, count - start)
        chosen = images[torch.randint(len(images), (size,), generator=generator)]
        angle = (torch.rand(size, generator=generator) * 2 - 1) * math.radians(10)
        shift = (torch.rand(size, 2, generator=generator) * 2 - 1) / images.shape[-1]
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(-1, 2, 2)
        grid = F.affine_grid(torch.cat((turn, shift[..., None]), 2), list(chosen.shape), False)
        yield F.grid_sample(chosen, grid, align_corners=False).clamp(0, 1)


def mixed(images: Tensor, odd: Tensor, share: float, *, count: int, seed: int = 0) -> Tensor:
    """Draw images without repeats, so many of them from `odd`."""
    generator = Streams(seed).torch("mixture")
    strange = round(share * count)
    own = images[torch.randperm(len(images), generator=generator)[: count - strange]]
    other = odd[torch.randperm(len(odd), generator=generator)[:strange]]
    both = torch.cat((own, other))
    return both[torch.randperm(len(both), generator=generator)]


def attacked(served: Victim, make: Callable[[], Attacker], pool: ImageSet | None,
             seeds: Sequence[int]) -> Finding:  # fmt: skip
    """Let an attacker play against the bare victim on each seed."""
    finding = Finding()
    for seed in seeds:
        streams = Streams(seed)
        game = ExtractionGame(
            ThreatModel(10, (1, 8, 8), ATTACK_QUERIES),
            [DeployedDefence("undefended", Defence(), served)],
            Static(),
            clock=make_clock("none", streams),
            streams=streams,
        )
        game.add_observers(Client(finding))
        weights = streams.torch("clone")
        kit = Kit(CPU, streams.torch("attacker"), partial(_clone, weights), surrogate_pool=pool)
        try:
            make().attack(GameOracle(game), kit)
        except BudgetExhausted:
            continue
    return finding


def _clone(weights: torch.Generator) -> torch.nn.Module:
    digits = load("digits")
    return registry.build(
        "conv-small", num_classes=10, image_shape=digits.image_shape, generator=weights,
        mean=digits.mean, std=digits.std,
    )  # fmt: skip


def rows() -> list[Row]:
    """List the table's rows, benign clients first."""
    served, digits = victim(), load("digits")
    pools = {
        name: load_pool(name, image_shape=(1, 8, 8), count=6000, generator=Streams(0).torch(name))
        for name in ("strokes", "shapes")
    }
    test = digits.held_out.images()
    every = torch.cat([one.images() for one in digits.parts.values()])

    def answerer(images: Tensor) -> Tensor:
        return served.posteriors(images).argmax(1)

    def benign(title: str, measure: Callable[[], Finding]) -> Row:
        return Row(title, lambda seeds: measure())

    found = [
        benign("84 clients, the 600 test digits each", lambda: benign_clients(answerer, test, 84)),
        benign("28 clients, all 1,797 digits each", lambda: benign_clients(answerer, every, 28)),
        benign("one client, the test digits 84 times",
               lambda: one_client(answerer, again(test, 84))),
        benign("one client, 50,000 turned and shifted digits",
               lambda: one_client(answerer, moved(every, 50_000))),
    ]  # fmt: skip
    for name, pool in pools.items():
        for share in (0.05, 0.25, 0.5) if name == "strokes" else (0.25, 0.5):
            stream = mixed(every, pool.images(), share, count=1797)
            found.append(
                benign(f"digits with {share:.0%} {name}",
                       partial(one_client, answerer, iter([stream])))
            )  # fmt: skip
    found += [
        benign(f"{name} alone, from a benign user",
               partial(one_client, answerer, iter([pool.images()])))
        for name, pool in pools.items()
    ]  # fmt: skip
    attackers: list[tuple[str, Callable[[], Attacker], ImageSet | None]] = [
        ("DFME, batch 64", partial(DFME, batch=64, clone_rate=0.1), None),
        ("DFME, batch 128", partial(DFME, batch=128, clone_rate=0.1, generator_rate=1e-4), None),
        ("DFMS-HL", DFMSHL, None),
        ("uniform noise", partial(Noise, batch=64), None),
        ("an untrained generator", partial(RandomGenerator, batch=64), None),
        ("Knockoff from strokes", partial(Knockoff, request=64, epochs=1), pools["strokes"]),
        ("Knockoff from shapes", partial(Knockoff, request=64, epochs=1), pools["shapes"]),
    ]
    found += [Row(title, partial(attacked, served, make, pool)) for title, make, pool in attackers]
    return found


HEAD = "| queries | asked | tests | lowest | median | shape | place |\n" + "| --- " * 7 + "|"


def line(title: str, found: Finding) -> str:
    """Write a row in Markdown."""
    low, least, most = (_number(value) for value in (found.lowest, found.least, found.most))
    cells = (
        title, f"{found.queries:,}", str(found.tests), low, f"{least} to {most}",
        _first(found.shape, found.clients), _first(found.place, found.clients),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _first(asked: Sequence[int], clients: int) -> str:
    """Tell when the first alarms came, and at how many of several clients."""
    if not asked:
        return "none"
    early, late = min(asked), max(asked)
    text = f"**at {early:,}**" if early == late else f"**at {early:,} to {late:,}**"
    return text if len(asked) == clients else f"{text}, {len(asked)} of {clients}"


def write_page(text: str, page: Path = PAGE) -> None:
    """Put the table between the marks of the page; ValueError where it has not both."""
    begin, end = "<!-- detector: begin -->", "<!-- detector: end -->"
    old = page.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1:
        raise ValueError(f"expected one '{begin}' and one '{end}' in {page}")
    page.write_text(f"{old.split(begin)[0]}{begin}\n{text}\n{end}{old.split(end)[1]}", "utf-8")


def main() -> None:
    """Measure, print as it goes, and write the page where asked."""
    parser = argparse.ArgumentParser(description="The table of docs/defenders.md.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", default="", help="rows whose title holds this text")
    parser.add_argument("--write", action="store_true", help="put the whole table into the page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [HEAD]
    print(HEAD)
    for row in rows():
        if given.only in row.title:
            lines.append(line(row.title, row.measure(given.seeds)))
            print(lines[-1], flush=True)
    if given.write and not given.only:
        write_page("\n".join(lines))


if __name__ == "__main__":
    main()
