"""Does DFME earn its queries on photographs, beside its two controls?

CIFAR-10 is brought to small grey images, so that a CPU carries the game: the generator, whose
cost grows with the image, is most of it. Victim and clone are the small convolutional network. A
row per attacker, seed and checkpoint goes to a CSV file; what is there already is not played again.
Other attackers of the catalog that need no pool play too, by `--attackers`.

    ARENA_DATA=... python benchmarks/data_free_ranking.py --budget 300000 --seeds 0 1 2
"""

import argparse
import csv
import time
from pathlib import Path

import torch
from torch import nn

from agents.base import Attacker, Kit
from agents.defenders.static import Static
from arena.registry import players
from envs.data.images import ImageSet
from envs.data.resize import fit_to
from envs.data.sources import load
from envs.defences.base import Defence, DeployedDefence
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Round
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.evaluation import evaluate
from envs.training.loop import fit
from envs.training.recipes import Recipe
from envs.types import ThreatModel
from envs.victim.victim import Victim

ATTACKERS = ("noise", "random-generator", "dfme")
COLUMNS = ("data", "size", "victim", "attacker", "seed", "queries", "accuracy", "fidelity",
           "victim_accuracy", "seconds", "torch")  # fmt: skip


class World:
    """One seed's images and victim.

    Args:
        data: a set of the catalog.
        size: pixels a side; the images turn grey.
        network: of victim and clone.
        epochs: of the victim's training.
        seed: of the victim.
    """

    def __init__(self, data: str, size: int, network: str, *, epochs: int, seed: int) -> None:
        splits = load(data)
        shape = (1, size, size)
        self.shape, self.network = shape, network
        self.train, self.test = (_grey(part, shape) for part in (splits.train, splits.test))
        self.classes = self.train.num_classes
        unit = self.train.pixels.double() / 255
        self.statistics = {"mean": [float(unit.mean())], "std": [float(unit.std())]}
        streams = Streams(seed).child("victim")
        victim = self.build(streams.torch("weights"))
        recipe = Recipe(epochs=epochs, batch=128, learning_rate=0.05, augment="shift")
        fit(victim, self.train.pixels, self.train.labels, recipe, generator=streams.torch("fit"))
        self.victim = victim.eval()
        self.victim_accuracy = evaluate(victim, self.test.pixels, self.test.labels)

    def build(self, generator: torch.Generator) -> nn.Module:
        """Return a fresh network for the images."""
        return registry.build(
            self.network, num_classes=self.classes, image_shape=self.shape,
            generator=generator, **self.statistics,
        )  # fmt: skip

    def measure(self, clone: nn.Module) -> tuple[float, float]:
        """Return accuracy and agreement with the victim on the test images."""
        with torch.no_grad():
            served = torch.cat([self.victim(part) for part in self.test.images().split(500)])
        return (
            evaluate(clone, self.test.pixels, self.test.labels),
            evaluate(clone, self.test.pixels, served.argmax(1)),
        )


def _grey(images: ImageSet, shape: tuple[int, int, int]) -> ImageSet:
    pixels = fit_to(images.pixels, shape)
    return ImageSet(pixels, images.labels, images.num_classes, images.name, images.classes)


def play(
    world: World, make: type[Attacker], *, budget: int, checkpoints: int, seed: int
) -> list[tuple[float, ...]]:
    """Play one game; returns (queries, accuracy, fidelity, seconds) at each checkpoint."""
    streams, attacker = Streams(seed), make()
    victim = Victim(MultiExit(world.victim, ()))  # type: ignore[arg-type]
    game = ExtractionGame(
        ThreatModel(world.classes, world.shape, budget),
        [DeployedDefence("none", Defence(), victim)],
        Static(),
        clock=make_clock("none", streams),
        streams=streams,
    )
    weights, began = streams.torch("clone"), time.monotonic()
    rows: list[tuple[float, ...]] = []

    class Checkpoints:
        def on_round(self, round: Round) -> None:
            due = (len(rows) + 1) * budget // checkpoints
            if game.used >= due and due < budget and attacker.clone is not None:
                rows.append((game.used, *world.measure(attacker.clone), time.monotonic() - began))

    game.add_observers(Checkpoints())
    kit = Kit(torch.device("cpu"), streams.torch("attacker"), lambda: world.build(weights))
    attacker.attack(GameOracle(game), kit)
    assert attacker.clone is not None
    return [*rows, (game.used, *world.measure(attacker.clone), time.monotonic() - began)]


def main() -> None:
    """Play what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--network", default="conv-small")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--budget", type=int, default=300_000)
    parser.add_argument("--checkpoints", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--attackers", nargs="+", default=ATTACKERS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/data_free.csv"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = set()
    if args.out.exists():
        with args.out.open(newline="") as file:
            done = {(r["data"], r["size"], r["attacker"], r["seed"]) for r in csv.DictReader(file)}
    for seed in args.seeds:
        missing = [
            name for name in args.attackers
            if (args.data, str(args.size), name, str(seed)) not in done
        ]  # fmt: skip
        if not missing:
            continue
        world = World(args.data, args.size, args.network, epochs=args.epochs, seed=seed)
        for name in missing:
            rows = play(world, players.attackers.find(name), budget=args.budget,
                        checkpoints=args.checkpoints, seed=seed)  # fmt: skip
            fresh = not args.out.exists()
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with args.out.open("a", newline="") as file:
                table = csv.writer(file)
                if fresh:
                    table.writerow(COLUMNS)
                for queries, accuracy, fidelity, seconds in rows:
                    table.writerow([
                        args.data, args.size, args.network, name, seed, queries,
                        f"{accuracy:.4f}", f"{fidelity:.4f}", f"{world.victim_accuracy:.4f}",
                        f"{seconds:.1f}", torch.__version__,
                    ])  # fmt: skip
            print(f"{name} seed {seed}: {rows[-1][1]:.3f} of {world.victim_accuracy:.3f}")


if __name__ == "__main__":
    main()
