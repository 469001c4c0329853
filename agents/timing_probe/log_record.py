"""Writes down what a probe saw on the clock, small enough for a log: histogram and verdict."""

from typing import Any

import numpy as np
import torch

from agents.timing_probe.architecture_guess import Evidence
from agents.timing_probe.kmeans import Floats
from agents.timing_probe.timing_noise import NoiseFit

# `Any` in this file: findings differ in type.

LATENCIES = "latencies"
"""Kind of the note that holds the histogram."""

BINS = 120
_LEAST_RANGE = 0.1
"""Of log-times: an exact clock shows one value, which must not fill the whole width."""


def histogram(times: Floats, evidence: Evidence, *, repeats: int) -> dict[str, object]:
    """Sum up what was timed and what it was taken for, in JSON values.

    Args:
        times: (n,) log-times of distinct images, jitter and drift taken out; not empty.
        evidence: the verdict on them.
        repeats: how often each image was asked.

    Returns:
        "edges" (BINS + 1 seconds, ascending) and "counts" (images between them); "exits", for each
        exit told apart its "seconds" and its "share" of the images; "images", "repeats", and
        "certainty", the belief in the number of exits, 0 to 1.
    """
    low, high = float(times.min()), float(times.max())
    spare = max(_LEAST_RANGE - (high - low), 0.05 * (high - low)) / 2
    counts, edges = np.histogram(times, bins=BINS, range=(low - spare, high + spare))
    peaks = evidence.count.peaks
    return {
        "edges": np.exp(edges).tolist(),
        "counts": counts.tolist(),
        "exits": [
            {"seconds": float(np.exp(mean)), "share": float(weight)}
            for mean, weight in zip(peaks.means, peaks.weights, strict=True)
        ],
        "images": len(times),
        "repeats": repeats,
        "certainty": evidence.certainty,
    }


def in_words(evidence: Evidence, *, repeats: int) -> str:
    """Say the verdict in one line."""
    exits = evidence.count.exits
    found = "one exit" if exits == 1 else f"{exits} exits"
    times = "once" if repeats == 1 else f"{repeats} times"
    return (
        f"told {found} apart by the time of the answers to {evidence.probes} images, asked {times} "
        f"each; belief {100 * evidence.certainty:.0f}%"
    )


def findings(evidence: Evidence, calibration: NoiseFit) -> dict[str, Any]:
    """Sum up what later phases of a campaign may use; `ExitTiming` says what each is."""
    cuts = torch.from_numpy(evidence.count.boundaries()).exp().tolist()
    return {
        "latency_cuts": tuple(cuts),
        "deepest_latency": cuts[-1] if cuts else 0.0,
        "exit_seconds": tuple(evidence.times.seconds.tolist()),
        "architectures": evidence.architectures,
        "thresholds": evidence.thresholds.values if evidence.thresholds else (),
        "widths": evidence.widths,
        "calibration": calibration,
    }
