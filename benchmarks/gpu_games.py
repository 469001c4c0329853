"""The games of `gpu_agenda`: a CIFAR-10 victim, its fortress, and two attacks on it.

CIFAR-10, the test images of CIFAR-100 and Tiny-ImageNet lie in the data root (`ARENA_DATA`). All
games are kept in logs in the folder of the results, and victims in the cache: what was played or
trained is not played or trained again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import arena
from arena.log.episode_filter import EpisodeFilter
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.runner.progress import Watcher
from arena.runner.setup import Setup
from arena.scenario import EpisodePlan
from arena.scenario.given import scenario_of
from arena.scenario.schema_parts import DataSpec
from benchmarks.exit_scores import auroc, scores
from envs.nets.generators import DfmeGenerator
from envs.seeding import Streams
from envs.training.evaluation import evaluate
from envs.training.victims import train_victim

# `Any` in this file: values of scenario files, which carry no types.

Item = Callable[[], Mapping[str, object]]

RECIPE = {
    "use": "colour32", "epochs": 24, "batch": 512, "learning_rate": 0.4, "schedule": "one-cycle",
    "warmup": 0.2, "label_smoothing": 0.1, "amp": "bf16",
}  # fmt: skip
"""One cycle of 24 epochs: meant for 94 % in two minutes of a current GPU."""

FORTRESSES: Sequence[tuple[str, Mapping[str, object]]] = (
    ("plain", {"variant": "plain"}),
    ("intended-M", {}),
    ("released-fixed", {"variant": "released-fixed"}),
)
FEW, MANY = 500, 10_000


def items(device: torch.device, out: Path, *, small: bool) -> dict[str, Item]:
    """Return the games, in the order of worth.

    Args:
        device: where they are played.
        out: folder of the logs.
        small: networks, data and budgets that only show that everything runs.
    """
    victims = ["resnet10-half"] if small else ["resnet18-8x", "resnet34-8x"]
    first = _settings(victims[0], small=small)
    games: dict[str, Item] = {"agreement": partial(_agreement, device, out, small=small)}
    games |= {
        f"victim-{name}": partial(_victim, device, _settings(name, small=small)) for name in victims
    }
    games |= {
        f"fortress-{name}": partial(_fortress, device, first, params, few=FEW if small else MANY)
        for name, params in FORTRESSES
    }
    games["played-dfme"] = partial(_dfme, device, out, first, 2_000 if small else 2_000_000)
    games["played-knockoff"] = partial(_knockoff, device, out, first, FEW if small else MANY)
    return games


def _settings(victim: str, *, small: bool) -> dict[str, Any]:
    """Give what all games on one victim have in common, by dotted key."""
    recipe = {**RECIPE, "epochs": 1, "batch": 64, "amp": "none"} if small else RECIPE
    return {
        "data": {"use": "cifar10", "params": {"validation": 49_000 if small else 5_000}},
        "victim.use": victim,
        "victim.recipe": recipe,
        "victim.seed": 0,
        "clone.use": "resnet10-half" if small else "resnet18-8x",
    }


def _agreement(device: torch.device, out: Path, *, small: bool) -> Mapping[str, object]:
    """Play one game of digits on the CPU and on the device.

    Charges are equal; images are drawn by the device's own generator, so that exits and scores
    agree as far as chance lets them.
    """
    found: dict[str, object] = {}
    for where in ("cpu", str(device)):
        log = out / f"agreement-{where.replace(':', '-')}.db"
        budget = 500 if small else 20_000
        arena.run("quickstart", seeds=0, overrides={"threat.budget": budget}, log=log, device=where)
        for row in _episodes(log):
            found[f"{row.attacker} vs {row.defender}, {where}"] = {
                "charged": row.queries_used,
                "clone accuracy": row.clone_accuracy,
                "compute of attack queries": row.attack_compute_share,
                "seconds": row.wall_seconds,
            }
    return found


def _victim(device: torch.device, settings: Mapping[str, Any]) -> Mapping[str, object]:
    """Train the victim, or recall it; a recalled one takes no time."""
    plan, setup = _plan("knockoff_cifar10", settings, "undefended"), Setup(device, Watcher())
    splits, began = setup.images.splits(plan), time.perf_counter()
    network = train_victim(splits, setup.victim_spec(plan), device=device, report=print)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "test accuracy": evaluate(network, splits.test.images(), splits.test.labels),
    }


def _fortress(
    device: torch.device, settings: Mapping[str, Any], params: Mapping[str, object], *, few: int
) -> Mapping[str, object]:
    """Harden the victim, and say where images of each kind leave it."""
    defender = {"name": "fortress", "defence": [{"use": "dnf", "params": dict(params)}]}
    plan, setup = _plan("knockoff_cifar10", settings, defender), Setup(device, Watcher())
    began = time.perf_counter()
    deployed = setup.set_up_defender(plan).deployed_defences[0]
    seconds, test = time.perf_counter() - began, setup.images.splits(plan).test
    foreign = setup.images.load_pool(
        plan, DataSpec(use="cifar100-test"), generator=Streams(0).torch("pool")
    )
    victim, labels = deployed.victim, test.labels[:few]
    kinds = {
        "DFME's first": _first_of_dfme(victim.image_shape, few, device),
        "CIFAR-100": foreign.images()[:few],
    }
    own = scores(victim, test.images()[:few])
    found: dict[str, object] = {
        "seconds": seconds,
        "served accuracy": float((own.labels == labels).double().mean()),
        "exits of test images": _shares(own.exits, victim.num_exits),
    }
    for name, images in kinds.items():
        others = scores(victim, images)
        found[f"exits of {name} images"] = _shares(others.exits, victim.num_exits)
        found[f"AUROC of the exit, {name} images"] = auroc(-own.exits, -others.exits)
    return found


def _first_of_dfme(shape: tuple[int, int, int], count: int, device: torch.device) -> Tensor:
    """Draw what DFME asks first: outputs of a generator with drawn weights."""
    stream = Streams(0).torch("generator", device)
    generator = DfmeGenerator(shape, generator=stream)
    parts = []
    with torch.inference_mode():
        for _ in range(-(-count // FEW)):
            z = torch.randn(FEW, generator.latent, generator=stream, device=device)
            parts.append(generator(z))
    return torch.cat(parts)[:count]


def _shares(exits: Tensor, count: int) -> list[float]:
    """Return the share of images that leaves at each exit."""
    return (torch.bincount(exits, minlength=count) / len(exits)).tolist()


def _dfme(
    device: torch.device, out: Path, settings: Mapping[str, Any], budget: int
) -> Mapping[str, object]:
    """Play DFME against the bare victim and the fortress; accuracy at ten points of the budget."""
    changes = {
        **settings, "threat.budget": budget, "checkpoints": 10, "traffic.benign": 0.0,
        "attackers.dfme.params.batch": 256,
    }  # fmt: skip
    return _played("dfme_cifar10", ["undefended", "dnf"], changes, device, out / "dfme.db")


def _knockoff(
    device: torch.device, out: Path, settings: Mapping[str, Any], budget: int
) -> Mapping[str, object]:
    """Play Knockoff with Tiny-ImageNet against the bare victim and two fortresses."""
    changes = {**settings, "threat.budget": budget}
    defenders = ["undefended", "dnf", "dnf_plus"]
    return _played("knockoff_cifar10", defenders, changes, device, out / "knockoff.db")


def _played(
    scenario: str,
    defenders: Sequence[str],
    changes: Mapping[str, Any],
    device: torch.device,
    log: Path,
) -> Mapping[str, object]:
    """Play a scenario; returns accuracy along the budget, time and queries a second by defender."""
    arena.run(
        scenario, defenders=defenders, seeds=0, overrides=changes, log=log, device=str(device),
        progress=True,
    )  # fmt: skip
    found: dict[str, object] = {}
    for row in _episodes(log):
        with Log.open(log, read_only=True) as opened:
            along = opened.checkpoints(row.id)
        found[row.defender] = {
            "clone accuracy": row.clone_accuracy,
            "along the budget": [one.clone_accuracy for one in along],
            "served accuracy": row.served_accuracy,
            "compute of attack queries": row.attack_compute_share,
            "seconds": row.wall_seconds,
            "queries a second": (row.queries_used or 0) / (row.wall_seconds or 1),
        }
    if failed := set(defenders) - set(found):
        raise RuntimeError(f"not played to the end: {', '.join(sorted(failed))}; see {log}")
    return found


def _episodes(log: Path) -> list[EpisodeRow]:
    """Read the finished episodes of a log, oldest first."""
    with Log.open(log, read_only=True) as opened:
        return opened.episodes(EpisodeFilter(status="success", newest_first=False))


def _plan(
    scenario: str, settings: Mapping[str, Any], defender: str | Mapping[str, Any]
) -> EpisodePlan:
    return scenario_of(scenario, None, defender, 0, settings, apart=False).plans()[0]
