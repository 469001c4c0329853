"""Writes an assessment down: as JSON for programs, and as one HTML page that can be filed."""

from pathlib import Path
from typing import Any

from arena.analysis.intervals import Interval
from arena.assessment.assessed import Assessment, Judged
from arena.assessment.citations import citations
from arena.assessment.page import page, permission
from arena.log.jsontext import to_json
from arena.scenario import Scenario
from envs.atomic_file import whole_file
from envs.errors import ArenaError

FORM = "fortress-arena assessment 1"
"""Says what the JSON file is; the number rises where a reader of the last one would be misled."""

# `Any` in this file: JSON values.


def write_pack(
    found: Assessment, scenario: Scenario, command: str, folder: Path
) -> tuple[Path, Path]:
    """Write assessment.json and assessment.html.

    Args:
        found: what to write.
        scenario: that was assessed.
        command: what plays it again.
        folder: is made where it is missing.

    Raises:
        ArenaError: a file cannot be written.
    """
    texts = {
        "assessment.json": to_json(as_dict(found, scenario, command)) + "\n",
        "assessment.html": page(found, scenario, command),
    }
    paths = []
    for name, text in texts.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:  # never half a file
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ArenaError(f"cannot write {path}: {error.strerror}") from error
        paths.append(path)
    return paths[0], paths[1]


def as_dict(found: Assessment, scenario: Scenario, command: str) -> dict[str, Any]:
    """Give plain values: accuracies as shares, intervals as [low, high] at 95%."""
    return {
        "form": FORM,
        "command": command,
        "scenario": {"name": scenario.name, "text": scenario.text},
        "permission": permission(scenario),
        "attacks": [
            {"name": one.name, "role": one.role, "asks": one.asks, "plain": one.plain,
             "table": one.table}
            for one in found.chosen.attacks
        ],
        "left_out": [one._asdict() for one in found.chosen.left_out],
        "budgets": [
            {"budget": one.budget, "defenders": [_judged_dict(each) for each in one.defenders]}
            for one in found.budgets
        ],
        "standards": [one._asdict() for one in citations(found, scenario)],
        "runs": [
            {"id": run.id, "created": run.created, "command": run.command, "python": run.python,
             "versions": run.versions, "git_commit": run.git_commit, "git_dirty": run.git_dirty,
             "device": run.device}
            for run in found.runs
        ],
        "episodes": [
            {"id": row.id, "status": row.status, "error": row.error, "attacker": row.attacker,
             "defender": row.defender, "budget": row.budget, "seed": row.seed,
             "clone_accuracy": row.clone_accuracy, "plan_hash": row.plan_hash,
             "query_digest": row.query_digest, "answer_digest": row.answer_digest,
             "content_digest": row.content_digest}
            for row in found.episodes
        ],
    }  # fmt: skip


def _judged_dict(one: Judged) -> dict[str, Any]:
    return {
        "defender": one.defender,
        "worst_case": one.worst and {"attack": one.worst.by, **_interval(one.worst.clone)},
        "attacks": [
            {"name": each.attack.name, "seeds": each.seeds, **_interval(each.clone)}
            for each in one.reached
        ],
        "flags": [each._asdict() for each in one.flags],
        "beside_undefended": one.effects and one.effects.as_dict(),
        "alarmed": one.alarmed._asdict(),
        "inferred": {name: verdicts._asdict() for name, verdicts in one.inferred.items()},
    }


def _interval(found: Interval | None) -> dict[str, Any]:
    if found is None:
        return {"clone_accuracy": None}
    return {"clone_accuracy": found.mean, "interval": [found.low, found.high], "n": found.n}
