"""Shows an assessment on one HTML page that opens anywhere, without a network."""

from collections.abc import Iterator, Sequence
from importlib import resources
from typing import NamedTuple

from markupsafe import Markup

from arena.assessment.assessed import Assessment, AtBudget, Judged, WorstCase
from arena.assessment.citations import citations
from arena.assessment.sequence import Attack
from arena.report.effects import EffectTable, effect_table
from arena.report.formatting import Cell, count_text, interval_cell, listed, number, with_interval
from arena.report.html import environment, packaged
from arena.report.tables import Origin, origins
from arena.scenario import Scenario
from envs.errors import printable


class WorstLine(NamedTuple):
    """A defender's row of the table of worst cases: a cell and an attack for each budget."""

    defender: str
    cells: list[tuple[Cell, str]]
    flags: str


class FlagLine(NamedTuple):
    """A flag's state and evidence for each defender, and what to do where one is raised."""

    name: str
    cells: list[tuple[str, str]]
    advice: str


class BudgetPart(NamedTuple):
    """What the page shows of one budget."""

    budget: str
    defenders: list[str]
    attacks: Sequence[tuple[str, str, list[Cell]]]
    flags: list[FlagLine]
    effects: EffectTable
    inferred: list[tuple[str, str, str]]


def permission(scenario: Scenario) -> str:
    """Say who allowed the test: the scenario's sentence, or that the victim is played here."""
    given = getattr(scenario.victim, "permission", None)
    return given or "the victim was played on this machine"


def page(found: Assessment, scenario: Scenario, command: str) -> str:
    """Give the page as text; it opens anywhere, without a network."""
    text = resources.files("arena.assessment").joinpath("page.html.j2").read_text("utf-8")
    return printable(
        environment()
        .from_string(text)
        .render(
            style=Markup(packaged("page.css")),
            name=scenario.name,
            headline=headlines(found),
            description=scenario.description,
            facts=list(_facts(found, scenario)),
            budgets=[count_text(one.budget) for one in found.budgets],
            worst=worst_lines(found),
            parts=[_budget_part(one, found.chosen.attacks) for one in found.budgets],
            attacks=found.chosen.attacks,
            left_out=found.chosen.left_out,
            failed=[(row.attacker, row.defender, row.seed, row.error) for row in found.failed],
            command=command,
            origins=_origins(found),
            citations=citations(found, scenario),
            episodes=found.episodes,
        )
    )


def _origins(found: Assessment) -> list[Origin]:
    return origins(sorted(found.runs, key=lambda run: run.created))


def headlines(found: Assessment) -> list[str]:
    """Say for each defender what the worst attack of the largest budget reached."""
    if not found.budgets:
        return ["No attack ended well; nothing is shown."]
    largest = found.budgets[-1]
    return [_headline(one, largest.budget) for one in largest.defenders if one.worst is not None]


def _headline(one: Judged, budget: int) -> str:
    worst = one.worst
    assert worst is not None
    text = (
        f"{one.defender}: the worst case is a clone with {with_interval(worst.clone)} after "
        f"{count_text(budget)} queries ({worst.by})"
    )
    lost = one.effects and one.effects.effects.get("users_lose")
    if lost:
        text += f"; benign users lose {number(lost.interval.mean, 'points')} points"
    raised = one.raised
    flags = f"{len(raised)} {'flag' if len(raised) == 1 else 'flags'} raised" if raised else (
        "no flag raised"
    )  # fmt: skip
    return f"{text}; {flags}."


def worst_lines(found: Assessment) -> list[WorstLine]:
    """Lay the worst cases of all defenders side by side, one column for each budget."""
    names = dict.fromkeys(one.defender for at in found.budgets for one in at.defenders)
    lines = []
    for name in names:
        judged = [_of(at, name) for at in found.budgets]
        last = next((one for one in reversed(judged) if one is not None), None)
        lines.append(
            WorstLine(
                name,
                [_worst_cell(None if one is None else one.worst) for one in judged],
                listed([flag.name for flag in last.raised]) if last else "",
            )
        )
    return lines


def _of(at: AtBudget, name: str) -> Judged | None:
    return next((one for one in at.defenders if one.defender == name), None)


def _worst_cell(worst: WorstCase | None) -> tuple[Cell, str]:
    if worst is None:
        return Cell(""), ""
    return interval_cell(worst.clone, "share", seeds=worst.clone.n), worst.by


def _budget_part(at: AtBudget, attacks: Sequence[Attack]) -> BudgetPart:
    names = [one.defender for one in at.defenders]
    reached = {
        (one.defender, each.attack.name): interval_cell(each.clone, "share", seeds=each.seeds)
        for one in at.defenders
        for each in one.reached
        if each.clone is not None
    }
    lines = [
        (
            attack.name,
            attack.role,
            [reached.get((name, attack.name), Cell("")) for name in names],
        )
        for attack in attacks
        if any((name, attack.name) in reached for name in names)
    ]
    by_flag = zip(*(one.flags for one in at.defenders), strict=True)
    return BudgetPart(
        count_text(at.budget),
        names,
        lines,
        [FlagLine(flags[0].name, [(one.state, one.evidence) for one in flags],
                  next((one.advice for one in flags if one.state == "raised"), ""))
         for flags in by_flag],
        effect_table([one.effects for one in at.defenders if one.effects is not None]),
        [(one.defender, attribute.replace("_", " "), f"{said.right} of {said.judged}"
          + (f", {said.unknown} unknown" if said.unknown else ""))
         for one in at.defenders for attribute, said in one.inferred.items()],
    )  # fmt: skip


def _facts(found: Assessment, scenario: Scenario) -> Iterator[tuple[str, str]]:
    threat = scenario.threat
    yield "victim", f"{scenario.victim.use} on {scenario.data.use}"
    yield "clones", scenario.clone.use
    yield "answers", {"soft": "whole posteriors", "hard": "labels alone"}[threat.labels]
    yield "response times", {"none": "not shown", "virtual": "shown, modelled",
                             "wall": "shown, measured"}[threat.latency]  # fmt: skip
    yield "attacker's images", "none" if threat.pool is None else threat.pool.use
    yield "accounts", count_text(threat.accounts)
    yield "seeds", listed([str(seed) for seed in scenario.seeds])
    yield "permission", permission(scenario)
    ended = len(found.episodes) - len(found.failed)
    yield "episodes", f"{ended} of {len(found.episodes)} ended well"
