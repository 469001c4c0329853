"""Reads the games of the real clock, and writes its table of docs/attackers.md."""

import csv
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import NamedTuple, cast

from arena.analysis.episode_data import exit_counts
from arena.evaluation.architecture import visited_exits
from arena.log.episode_filter import EpisodeFilter
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from benchmarks.attacker_table import RESULTS, origin
from envs.nets import registry
from envs.nets.exit_cost import profile
from envs.nets.multi_exit import with_heads
from envs.victim.victim import Victim

CSV = RESULTS / "real_clock.csv"
SCENARIO = "real_clock"
VICTIMS = {"resnet18-8x": ("resnet", 18), "mobilenetv2": ("mobilenet", 53)}
"""Family and depth by name."""

DEFENDERS = ("plain", "plain+constant-time", "undefended")
CLIENTS = ("red", "blue")
EXITS = (0, 1, 2)
"""Stages with a head, as the scenario has them."""

ASKED = ("exits_visited", "family", "depth")
SURE = 0.8
"""Confidence above which a wrong word is an offence."""


class Cell(NamedTuple):
    """One row of the table.

    Attributes:
        victim, defender: by name.
        place: "in process" or "served".
        state: "quiet" or "loaded".
    """

    victim: str
    place: str
    state: str
    defender: str

    @property
    def name(self) -> str:
        """Its files' name."""
        return "-".join(self).replace(" ", "_")


class Said(NamedTuple):
    """What the probe said in one game.

    Attributes:
        row: of the game.
        words: by attribute, the word, whether it is right, and how sure the probe is.
    """

    row: EpisodeRow
    words: dict[str, tuple[object, bool | None, float]]


def cells() -> list[Cell]:
    """List all rows."""
    ways = product(VICTIMS, ("in process", "served"), ("quiet", "loaded"), DEFENDERS)
    return [Cell(*way) for way in ways]


def games(cell: Cell, folder: Path) -> list[Said]:
    """Read what was said in a cell's games, by seed."""
    found: dict[int, Said] = {}
    for name in CLIENTS:
        path = folder / f"{cell.name}-{name}.db"
        if not path.exists():
            continue
        visited = _visited_of(cell, folder, name) if cell.place == "served" else None
        with Log.open(str(path), create=False, read_only=True) as log:
            for row in log.episodes(EpisodeFilter(status="success")):
                words = {}
                for one in log.inferences(row.id):
                    right = one.correct
                    if one.attribute == "exits_visited" and visited is not None:
                        right = None if one.inferred is None else one.inferred == visited
                    words[one.attribute] = (one.inferred, right, one.confidence or 0.0)
                found[row.seed] = Said(row, words)
    return [found[seed] for seed in sorted(found)]


def _visited_of(cell: Cell, folder: Path, name: str) -> int | None:
    """Count the exits that answered a client, by the server's log; None where it has none."""
    answers: list[int] = []
    with Log.open(str(folder / f"{cell.name}-server.db"), create=False, read_only=True) as log:
        for row in log.episodes(EpisodeFilter(kind="served", attacker=name)):
            counted = exit_counts(log.rounds(row.id)).attack
            if counted:
                old = answers or [0] * len(counted[0])
                answers = [a + b for a, b in zip(old, counted[0], strict=True)]
    return len(visited_exits(outline(cell), answers)) if answers else None


def outline(cell: Cell) -> Victim:
    """Give what counting exits needs of a victim: its exits and what they cost."""
    body = registry.outline(cell.victim, num_classes=6, image_shape=(3, 32, 32))
    network = with_heads(body, exits=() if cell.defender == "undefended" else EXITS)
    told = SimpleNamespace(num_exits=network.num_exits, profile=profile(network))
    return cast(Victim, told)


def row_of(cell: Cell, said: Sequence[Said], loads: str) -> str:
    """Write a row: of each attribute how many are right, unknown and wrong; and wrong ones sure."""
    told = []
    sure = 0
    for attribute in ASKED:
        words = [one.words.get(attribute, (None, None, 0.0)) for one in said]
        right = sum(word[1] is True for word in words)
        wrong = sum(word[0] is not None and word[1] is not True for word in words)
        sure += sum(
            word[0] is not None and word[1] is not True and word[2] > SURE for word in words
        )
        told.append(f"{right}, {len(words) - right - wrong}, {wrong}")
    asked = f"{median(one.row.queries_used or 0 for one in said):.0f}"
    played = (cell.victim, cell.place, cell.state, cell.defender, str(len(said)))
    cells = (*played, *told, str(sure), asked)
    return f"| {' | '.join((*cells, loads))} |"


HEAD = (
    "| victim | where | machine | defender | games | exits seen | family | depth | wrong and sure "
    "| queries | load before |\n" + "| --- " * 11 + "|"
)


def table(folder: Path) -> str:
    """Write the table of all cells that were played."""
    played = {cell: said for cell in cells() if (said := games(cell, folder))}
    lines = [row_of(cell, said, loads_of(cell, folder)) for cell, said in played.items()]
    rows = [one.row for said in played.values() for one in said]
    return "\n".join([origin(rows, SCENARIO, part=True), "", HEAD, *lines])


def loads_of(cell: Cell, folder: Path) -> str:
    """Tell the load averages before a cell was played."""
    path = folder / f"{cell.name}.loads"
    told = sorted(map(float, path.read_text("utf-8").split())) if path.exists() else []
    if not told:
        return "-"
    return f"{told[0]}" if told[0] == told[-1] else f"{told[0]} to {told[-1]}"


def write_rows(folder: Path, path: Path = CSV) -> None:
    """Write a row for each game and attribute."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Cell._fields, "seed", "attribute", "inferred", "right", "confidence"])
        for cell in cells():
            for said in games(cell, folder):
                for attribute, (word, right, sure) in said.words.items():
                    shown = json.dumps(word)
                    writer.writerow([*cell, said.row.seed, attribute, shown, right, f"{sure:.3f}"])
