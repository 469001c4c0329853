"""The table of defences at equal service says what the sweeps hold."""

from arena.analysis.sweeps import Setting, Sweep
from benchmarks.service_table import REFERENCE, differences, settings


def at(defender, value, clone, served):
    by_seed = {seed: clone + 0.01 * seed for seed in range(3)}
    return Setting(
        defender,
        value,
        ("knockoff",),
        "knockoff",
        by_seed,
        dict.fromkeys(range(3), served),
        {},
        360,
    )


SWEEPS = [
    Sweep("randp", "defence.0.params.epsilon",
          (at("randp epsilon=0.5", 0.5, 0.9, 0.98), at("randp epsilon=1.0", 1.0, 0.8, 0.90))),
    Sweep(REFERENCE, "defence.0.params.suspected",
          (at(f"{REFERENCE} suspected=0.01", 0.01, 0.7, 0.94),)),
]  # fmt: skip


def test_each_setting_tells_its_service_and_its_best_clone():
    rows = settings(SWEEPS).splitlines()[2:]
    assert rows[0].startswith("| `randp` | epsilon 0.5 | 98.0")
    assert "91.0 (88.5 to 93.5) | knockoff" in rows[0]  # t of 0.90, 0.91, 0.92
    assert len(rows) == 3


def test_defences_are_compared_where_they_serve_alike():
    (row,) = differences(SWEEPS).splitlines()[2:]
    assert "epsilon=0.5 to epsilon=1.0 | suspected=0.01 | 94.0, 94.0 | 86.0, 71.0 | 15.0" in row
