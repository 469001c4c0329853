"""Measures how the entropy weight of `dnf` answers images that no attacker asks.

    python -m benchmarks.entropy_weight > benchmarks/results/entropy_weight.csv

For each seed a `resnet10` victim of the digits, hardened with several weights and estimators; a row
tells how many of 500 turned digits and of 500 digits with shuffled patches reach the last exit, and
how right the held-out digits are answered. Takes minutes a seed.
"""

import argparse
import copy
import csv
import sys
from typing import TYPE_CHECKING, Literal

import torch

from envs.data.digits import digits_splits
from envs.defences.dnf import DNF
from envs.defences.harden_kit import HardenKit
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.ood import ood_source
from envs.training.ood_sources import Material
from envs.training.recipes import recipe_for
from envs.training.victims import VictimTraining, train_victim
from envs.victim.victim import Victim

if TYPE_CHECKING:
    import _csv

SETTINGS: tuple[tuple[float, Literal["M", "C"]], ...] = (
    (0.1, "M"),
    (0.3, "M"),
    (0.5, "M"),
    (1.0, "M"),
    (0.5, "C"),
)
SOURCES = ("turned", "patch-shuffle")
COUNT = 500


def main() -> None:
    """Write a row for each seed and setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    torch.set_num_threads(1)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["seed", "alpha", "estimator", *(f"late_{name}" for name in SOURCES),
                  "early_own", "accuracy", "accuracy_undefended", "torch"])  # fmt: skip
    for seed in parser.parse_args().seeds:
        _measure(seed, out)


def _measure(seed: int, out: "_csv.Writer") -> None:
    splits, device = digits_splits(), torch.device("cpu")
    training = VictimTraining(
        network="resnet10", params={}, recipe=recipe_for(splits.image_shape), seed=seed
    )
    body = train_victim(splits, training, device=device)
    odd = [
        ood_source(name, Material(splits.train, Streams(100 + seed).torch(name)))(COUNT)
        for name in SOURCES
    ]
    own, labels = splits.validation.images(), splits.validation.labels
    undefended = Victim(MultiExit(copy.deepcopy(body), ())).posteriors(own).argmax(1)
    for alpha, estimator in SETTINGS:
        defence = DNF(alpha=alpha, estimator=estimator)
        kit = HardenKit(splits, Streams(seed), device)
        victim = defence.harden(Victim(MultiExit(copy.deepcopy(body))), kit)
        last = victim.num_exits - 1
        late = [
            float((victim.answer(images, generator=_chance()).exits == last).double().mean())
            for images in odd
        ]
        answer = victim.answer(own, generator=_chance())
        early = float((answer.exits < last).double().mean())
        right = [float((found == labels).double().mean())
                 for found in (answer.posteriors.argmax(1), undefended)]  # fmt: skip
        out.writerow([seed, alpha, estimator, *(f"{one:.3f}" for one in (*late, early)),
                      *(f"{one:.4f}" for one in right), torch.__version__])  # fmt: skip
        sys.stdout.flush()


def _chance() -> torch.Generator:
    return Streams(0).torch("answers")


if __name__ == "__main__":
    main()
