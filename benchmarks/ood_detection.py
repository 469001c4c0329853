"""Measures how well fortresses tell a victim's own images from others, for two pages of docs.

    python -m benchmarks.ood_detection --world digits --write
    python -m benchmarks.ood_detection --world photographs --seeds 0 1 2 3 4 --write

A fortress is a detector: who is told from benign users can be answered differently, and who is not
cannot. Each row is one fortress and one source of images, and tells the area under the ROC curve of
three scores: the exit an image leaves at (the earlier, the stranger), what the first exit says, and
the highest suspicion of all guards, where there are some; of the last, how many are caught where at
most half a percent of own images are, which bounds what a fortress can mislead at that price.
`undefended` is the yardstick: how unsure the bare victim is.
Sources whose files are not in the data root are left out. Victims are trained, or recalled.
"""

import argparse
import copy
import csv
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from arena.analysis.intervals import mean_interval
from benchmarks.attacker_table import RESULTS, publish
from benchmarks.exit_scores import Scores, auroc, caught, scores
from benchmarks.pages import ROOT, table
from envs.data.images import ImageSet, Splits
from envs.data.overlap import scored_digests, without
from envs.data.sources import load, load_pool
from envs.defences.base import Defence
from envs.defences.dnf import DNF
from envs.defences.dnf_plus import DNFPlus
from envs.defences.harden_kit import HardenKit
from envs.errors import ArenaError, DataMissing, UnknownName
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.seeding import Streams
from envs.training.ood_sources import Material, RandomGenerators
from envs.training.recipes import recipe_of
from envs.training.victims import VictimTraining, train_victim
from envs.victim.victim import Victim

PAGES = {"digits": ROOT / "docs" / "dnf.md", "photographs": ROOT / "docs" / "photographs.md"}
CSV = RESULTS / "ood_detection.csv"
COUNT = 2000
CPU = torch.device("cpu")
PRICE = 0.005
"""Share of own images that may be caught, and so the most points of accuracy that it costs."""
_BATCH = 250


@dataclass(frozen=True, slots=True)
class World:
    """A victim and the fortresses around it.

    Args:
        data, network, params, recipe: as a scenario names them.
        defences: makes each fortress, by its name.
        sources: images of others, by name; data sets beside "uniform" and "generator".
    """

    data: str
    network: str
    defences: Mapping[str, Callable[[], Defence]]
    sources: tuple[str, ...]
    params: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)


NATURAL = ("svhn-test", "cifar100-test", "tiny-imagenet")
WORLDS: Mapping[str, World] = {
    "digits": World(
        "digits",
        "resnet10-half",
        {
            "undefended": Defence,
            "plain": partial(DNF, variant="plain"),
            "dnf": DNF,
            "dnf_plus": DNFPlus,
        },
        ("uniform", "generator", "strokes", "shapes", *NATURAL),
    ),
    "photographs": World(
        "cifar10",
        "resnet10",
        {
            "undefended": Defence,
            "plain": partial(DNF, variant="plain", epochs=4),
            "dnf": partial(DNF, epochs=4),
            "dnf-natural": partial(DNF, epochs=4, ood="cifar100-test"),
            "dnf_plus": DNFPlus,
            "dnf_plus-natural": partial(DNFPlus, ood="cifar100-test"),
        },
        ("uniform", "generator", *NATURAL),
        params={"stem_stride": 1},
        recipe={"use": "short32"},
    ),
}


@dataclass(frozen=True, slots=True)
class Row:
    """How one fortress tells one source from its victim's held-out images.

    Attributes:
        trained_on: sources of the fortress's own OOD images.
        auroc_exit: of the exit index.
        auroc_first: of the first exit's confidence, or a guard's suspicion.
        auroc_all: of what is decided by: the highest of all guards, else the first exit's.
        caught: share of the source's images above what `PRICE` of the own exceed, by that.
        early: share of the source's images that leave before the last exit, the lane not counted.
        early_own: of the victim's held-out images.
        served_accuracy: on them.
        victim_accuracy: on them, undefended.
    """

    world: str
    seed: int
    defence: str
    trained_on: str
    source: str
    auroc_exit: float
    auroc_first: float
    auroc_all: float
    caught: float
    early: float
    early_own: float
    served_accuracy: float
    victim_accuracy: float
    torch: str = torch.__version__


def images_of(source: str, splits: Splits, seed: int) -> Tensor:
    """Draw so many images of a source in the shape of the victim's own.

    Raises:
        DataMissing: its files are not there.
    """
    chance = Streams(seed).torch(f"ood/{source}")
    if source == "uniform":
        return torch.rand((COUNT, *splits.image_shape), generator=chance)
    if source == "generator":
        draw = RandomGenerators(Material(splits.train, chance))
        return torch.cat([draw(_BATCH) for _ in range(COUNT // _BATCH)])
    shape = splits.image_shape
    return load_pool(source, image_shape=shape, generator=chance, count=COUNT).images()


def measure(world: str, seed: int, fortresses: Collection[str] = ()) -> Iterator[Row]:
    """Train or recall a victim, harden it by each defence or by some, and compare the sources."""
    spec = WORLDS[world]
    splits = load(spec.data)
    training = VictimTraining(
        network=spec.network,
        params=dict(spec.params),
        recipe=recipe_of(spec.recipe, splits.image_shape),
        seed=seed,
    )
    body = train_victim(splits, training, device=CPU, report=partial(print, flush=True))
    odd = dict(_sources(spec, splits, seed))
    own = splits.held_out.images()[:COUNT]
    labels = splits.held_out.labels[:COUNT]
    bare = _right(scores(Victim(MultiExit(copy.deepcopy(body))), own), labels)
    for name, make in spec.defences.items():
        if fortresses and name not in fortresses:
            continue
        victim, trained_on = _hardened(make(), body, splits, training)
        inside = scores(victim, own)
        for source, images in odd.items():
            outside = scores(victim, images)
            yield Row(
                world, seed, name, trained_on, source,
                auroc_exit=auroc(-inside.exits, -outside.exits),
                auroc_first=auroc(inside.first, outside.first),
                auroc_all=auroc(inside.all, outside.all),
                caught=caught(inside.all, outside.all, PRICE),
                early=_early(outside, victim), early_own=_early(inside, victim),
                served_accuracy=_right(inside, labels), victim_accuracy=bare,
            )  # fmt: skip


def _sources(spec: World, splits: Splits, seed: int) -> Iterator[tuple[str, Tensor]]:
    for source in spec.sources:
        try:
            yield source, images_of(source, splits, seed)
        except DataMissing as error:
            print(f"without {source}: {error}", flush=True)


def _hardened(
    defence: Defence, body: Staged, splits: Splits, training: VictimTraining
) -> tuple[Victim, str]:
    # the stream of a game's victim, so that its fortress is measured and not another one
    kit = HardenKit(
        splits, Streams(training.seed).child("harden"), CPU, victim_key=training.key(splits),
        load_pool=partial(_unscored, splits),
    )  # fmt: skip
    victim = defence.harden(Victim(MultiExit(copy.deepcopy(body))), kit)
    return victim, ", ".join(defence.trained_on) or "none"


def _unscored(splits: Splits, name: str, *, generator: torch.Generator) -> ImageSet:
    """Load images for a defence as a game does: without those that clones are scored on."""
    pool = load_pool(name, image_shape=splits.image_shape, generator=generator)
    return without(pool, scored_digests(splits))


def _early(found: Scores, victim: Victim) -> float:
    return float((found.exits < victim.num_exits - 1).double().mean())


def _right(found: Scores, labels: Tensor) -> float:
    return float((found.labels == labels).double().mean())


def page_table(rows: Sequence[Row]) -> str:
    """Write means over seeds, with 95 % t intervals where there are several."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.defence, row.source), []).append(row)
    lines = [
        [defence, mine[0].trained_on, source, _cell(mine, "auroc_exit"), _cell(mine, "auroc_first"),
         _cell(mine, "auroc_all"), _cell(mine, "caught", 100),
         _cell(mine, "early", 100), _cell(mine, "early_own", 100),
         _cell(mine, "served_accuracy", 100)]
        for (defence, source), mine in groups.items()
    ]  # fmt: skip
    head = ["fortress", "trained on", "source", "AUROC of the exit", "AUROC of the first exit",
            "AUROC of all guards", f"caught at {100 * PRICE:g} % of own, %",
            "leave early %", "own images that do %", "served accuracy %"]  # fmt: skip
    return table(head, lines)


def _cell(rows: Sequence[Row], figure: str, scale: float = 1) -> str:
    found = mean_interval([getattr(row, figure) for row in rows]).within(0, 1)
    digits = 3 if scale == 1 else 1
    text = f"{scale * found.mean:.{digits}f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{scale * found.low:.{digits}f}, {scale * found.high:.{digits}f}]"


def read_rows() -> list[Row]:
    """Read what was measured before, of all worlds."""
    if not CSV.exists():
        return []
    kinds: dict[str, Any] = {one.name: one.type for one in fields(Row)}  # the types themselves
    with CSV.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [Row(**{key: kinds[key](text) for key, text in line.items()}) for line in lines]


def write_rows(rows: Sequence[Row]) -> None:
    """Write all rows, those of a world together."""
    with CSV.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            values = asdict(row)
            rounded = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in values.items()}
            writer.writerow(rounded)


def together(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return all rows in the order of the worlds and their fortresses, new ones instead of old."""
    measured = {(row.world, row.seed, row.defence) for row in new}
    kept = [row for row in old if (row.world, row.seed, row.defence) not in measured]
    order = {(world, name): place for world, spec in WORLDS.items()
             for place, name in enumerate(spec.defences)}  # fmt: skip
    worlds = list(WORLDS)
    return sorted(
        [*kept, *new],
        key=lambda row: (worlds.index(row.world), order[row.world, row.defence], row.seed),
    )


def main() -> None:
    """Measure a world, print its table, and write it down where asked."""
    parser = argparse.ArgumentParser(description="How well a fortress detects images of others.")
    parser.add_argument("--world", choices=WORLDS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fortresses", nargs="+", default=[], help="these alone; all if absent")
    parser.add_argument("--write", action="store_true", help="write them into the page and the CSV")
    asked = parser.parse_args()
    for name in asked.fortresses:
        if name not in WORLDS[asked.world].defences:
            raise UnknownName("fortress", name, WORLDS[asked.world].defences)
    torch.set_num_threads(1)
    rows: list[Row] = []
    for seed in asked.seeds:
        for row in measure(asked.world, seed, asked.fortresses):
            rows.append(row)
            print(row, flush=True)
    if asked.write:
        write_rows(together(read_rows(), rows))
        rows = [row for row in read_rows() if row.world == asked.world]  # as rounded there
    publish({f"detection-{asked.world}": page_table(rows)}, PAGES[asked.world], write=asked.write)


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
