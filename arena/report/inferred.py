"""Tells in sentences what attackers inferred about the victim."""

from collections.abc import Iterable, Mapping, Sequence

from arena.analysis.inferring import Inferred, Verdicts
from arena.report.findings import Finding, Statement
from arena.report.formatting import count_text, counted, listed, number


def inference_finding(found: Sequence[Inferred]) -> list[Finding]:
    """Say of each attribute how often it was found out, and by whom most often."""
    by_attribute: dict[str, dict[str, list[Verdicts]]] = {}
    for one in found:
        for verdicts in one.verdicts.values():
            for attribute, counts in verdicts.items():
                by_attribute.setdefault(attribute, {}).setdefault(one.attacker, []).append(counts)
    answers = tuple(
        Statement(
            attribute.replace("_", " "),
            _told({attacker: _added(counts) for attacker, counts in attackers.items()}),
        )
        for attribute, attackers in by_attribute.items()
    )
    return [Finding("What did the attackers infer?", answers)] if answers else []


def _added(counts: Iterable[Verdicts]) -> Verdicts:
    return Verdicts(*map(sum, zip(*counts, strict=True)))


def _told(attackers: Mapping[str, Verdicts]) -> str:
    every = _added(attackers.values())
    low, high = (number(end or 0.0, "share") for end in (every.share.low, every.share.high))
    text = f"right in {_of(every)} (95% interval {low} to {high})"
    if every.unknown:
        text += f", {count_text(every.unknown)} of them left unknown"
    most = max(counts.share.mean for counts in attackers.values())
    first = [name for name, counts in attackers.items() if counts.share.mean == most]
    if not every.right:
        return f"{text}."
    if len(attackers) == 1:
        return f"{text}, by {first[0]}."
    told = listed([f"{name}, in {_of(attackers[name])}" for name in first])
    return f"{text}; most often by {told}."


def _of(counts: Verdicts) -> str:
    return f"{count_text(counts.right)} of {counted(counts.judged, 'episode')}"
