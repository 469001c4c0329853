"""Small episodes leave the rows that are stored beside this file, line by line.

    python -m pytest tests/golden --golden write      stores what is played now

A review then shows what a change does to results. Processors sum floats in different orders, so
three kinds of lines are told apart:

    name = value    holds everywhere: counts, settings, words, digests of queries that come from a
                    random stream alone
    name ~ value    a float. Elsewhere it may differ by 0.05, for accuracies of networks that
                    trained for a moment, or by one in a million
    name @ value    follows from the last digits of floats and is not compared elsewhere

"Elsewhere" is where the first line names another processor or another torch. Times, ids, hashes,
versions and paths are left out. Both victims have one exit, because an image near a threshold may
leave at another exit on another processor.
"""

import json
import math
import platform
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import Scenario

HERE = Path(__file__).parent
EPISODES = {
    "noise": {"threat": {"budget": 300}, "checkpoints": 2},  # counts, benign users, distortion
    "probe": {  # inferences, notes, hard labels
        "threat": {"budget": 300, "labels": "hard", "latency": "virtual"},
        "traffic": {"benign": 0},
        "attackers": [{"use": "exit-timing"}],
    },
}
LEFT_OUT = re.compile(
    r"id|run_id|plan|plan_hash|versions|git_commit|device|host|pid|process_started|heartbeat|content_digest"
    r"|started|finished|time|data|path|sha256|bytes|meta|\w*seconds\w*"
)
HERE_ONLY = ("answer_digest", "benign_correct")
FOLLOWS_ANSWERS = ("probe",)  # what they ask next depends on answers, and so do digests of queries


def machine():
    """Name what the sums of floats depend on."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else platform.processor()
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([*facts.values(), capability, f"torch {torch.__version__}"])


def lines_of(log, row, here_only=HERE_ONLY):
    """Write all rows of an episode as "table index.name = value" lines."""
    tables = {
        "episode": [row],
        "round": log.rounds(row.id),
        "checkpoint": log.checkpoints(row.id),
        "inference": log.inferences(row.id),
        "event": log.events(row.id),
        "artifact": log.artifacts(row.id),
    }
    yield f"on {machine()}"
    for table, rows in tables.items():
        for index, one in enumerate(rows):
            for name, value in flat(asdict(one)):
                last = name.rsplit(".", 1)[-1]
                if not LEFT_OUT.fullmatch(last):
                    sign = "@" if last in here_only else "~" if isinstance(value, float) else "="
                    yield f"{table} {index}.{name} {sign} {shown(value)}"


def flat(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict) and not LEFT_OUT.fullmatch(name):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def shown(value):
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def alike(stored, played):
    """Compare two lines that two machines wrote."""
    (name, sign, value), (other_name, other_sign, other) = (
        line.split(" ", 3)[1:] for line in (stored, played)
    )
    if (name, sign) != (other_name, other_sign) or sign == "=":
        return stored == played
    return sign == "@" or math.isclose(float(value), float(other), rel_tol=1e-6, abs_tol=0.05)


def differences(stored, played):
    """Return the pairs of lines that differ; everything counts on the machine that stored them."""
    if len(stored) != len(played):
        missing, added = sorted(set(stored) - set(played)), sorted(set(played) - set(stored))
        return [("stored only", missing), ("played only", added)]
    same = str.__eq__ if stored[0] == played[0] else alike
    return [pair for pair in zip(stored[1:], played[1:], strict=True) if not same(*pair)]


@pytest.mark.parametrize("name", EPISODES)
def test_an_episode_leaves_the_rows_it_left_before(name, tiny, tmp_path, pytestconfig):
    with Log.open(tmp_path / "arena.db") as log:
        (row,) = play(Scenario.parse(tiny(**EPISODES[name])), log=log).episodes
        here_only = (*HERE_ONLY, "query_digest") if name in FOLLOWS_ANSWERS else HERE_ONLY
        played = list(lines_of(log, row, here_only))
    stored = HERE / f"{name}.txt"
    if pytestconfig.getoption("golden") == "write":
        stored.write_text("\n".join(played) + "\n", encoding="utf-8")
    assert differences(stored.read_text(encoding="utf-8").splitlines(), played) == []


def test_counts_hold_everywhere_and_accuracies_nearly():
    stored = ["on this", "episode 0.used = 1", "episode 0.accuracy ~ 0.5", 'episode 0.digest @ "a"']
    other = ["on that", "episode 0.used = 1", "episode 0.accuracy ~ 0.52", 'episode 0.digest @ "b"']
    assert differences(stored, other) == []
    assert len(differences(stored, ["on this", *other[1:]])) == 2
    assert differences(stored, [*other[:1], "episode 0.used = 2", *other[2:]])
    assert differences(stored, [*other[:2], "episode 0.accuracy ~ 0.6", *other[3:]])
    assert differences(stored, other[:3])
