"""Sums an episode up: the row of its outcome, out of counters and scores."""

from dataclasses import replace
from typing import Any

from arena.evaluation.benign_service import ServiceScore
from arena.evaluation.referee import CloneScore
from arena.log.outcome import OutcomeRow
from arena.runner.defender_setup import DefenderSetup
from envs.game.counters import Tally

# `Any` in this file: columns of a row by name.


def outcome_of(
    defender_setup: DefenderSetup,
    victim_accuracy: float | None,
    score: CloneScore | None,
    tally: Tally,
) -> OutcomeRow:
    """Sum an episode up, but for what benign users got: see `with_service`.

    Args:
        defender_setup: the defender at its deployed_defences.
        victim_accuracy: of the undefended victim on the test images; None where it was not asked.
        score: of the final clone; None without one.
        tally: the final counters.
    """
    reference = defender_setup.reference
    full = None if reference.is_remote else reference.profile.macs[-1]
    return OutcomeRow(
        clone_accuracy=score.accuracy if score else None,
        clone_fidelity=score.fidelity if score else None,
        victim_accuracy=victim_accuracy,
        harden_seconds=defender_setup.seconds,
        full_macs=full,
        **_costs(tally, full),
    )


def with_service(outcome: OutcomeRow, service: ServiceScore) -> OutcomeRow:
    """Add what benign users got."""
    return replace(
        outcome,
        served_accuracy=service.accuracy,
        served_agreement=service.agreement,
        distortion_mean=service.distortion_mean,
        distortion_p95=service.distortion_p95,
    )


def _costs(tally: Tally, full_macs: int | None) -> dict[str, Any]:
    """Turn counters into means per query; a kind of traffic that never came has none.

    Where the victim runs elsewhere (`full_macs` is None), what a query costs is unknown.
    """
    costs: dict[str, Any] = {
        "queries_used": tally.used,
        "query_digest": tally.query_digest,
        "answer_digest": tally.answer_digest,
    }
    for name, side in (("attack", tally.attack), ("benign", tally.benign)):
        costs[f"{name}_answered"] = side.answered
        if side.answered and full_macs is not None:
            macs = side.macs / side.answered
            costs[f"{name}_macs_mean"] = macs
            costs[f"{name}_compute_share"] = macs / full_macs
            costs[f"{name}_seconds_mean"] = side.seconds / side.answered
    return costs
