"""Where the density of served confidences jumps: the least threshold of a multi-exit victim.

Answers of an early exit are all more confident than its threshold, so that their density jumps
there. Below the least threshold every answer is the last exit's.
"""

import math

import torch
from torch import Tensor

from agents.timing_probe.timing_noise import common_step

_COARSE, _COARSEST = 0.005, 0.05  # steps of rounded confidences that look like jumps
_ROUNDING = 1e-4  # of multiples of a step found in float32 posteriors, and some more
_SATURATED = 1 - 1e-6  # float32 posteriors nearer to 1 are told apart no more


def first_jump(
    confidences: Tensor, *, ratio: float = 2.0, sigmas: float = 4.5, below: float = 0.05
) -> float | None:
    """Find the first upward jump of the density of confidences.

    At each value the distance to the k-th value below is compared with that to the k-th above,
    in log-odds. Where the density is smooth both are alike, and the logarithm of their quotient
    spreads by sqrt(2 / k) whatever the density is. Confidences that were rounded to at most two
    digits are first spread over what rounds to them: a jump is then found to that, and none of
    one digit.

    Args:
        confidences: (n,) served confidences, 0 to 1.
        ratio: a jump is at least by this factor.
        sigmas: and at least by so many standard deviations.
        below: least share of all values below a jump; where nearly nothing is below, the start
            of the values cannot be told from a threshold.

    Returns:
        The last value before the jump; None where there is none, or too few values.
    """
    values = _unrounded(confidences.detach().double().flatten().cpu())
    odds = torch.logit(values[values < _SATURATED].sort().values, eps=1e-12)
    reach = max(20, len(odds) // 50)
    first = max(reach, math.ceil(below * len(values)))
    if len(odds) < first + reach + 1:
        return None
    places = torch.arange(first, len(odds) - reach)
    left = (odds[places] - odds[places - reach]).clamp_min(1e-12)
    right = (odds[places + reach] - odds[places]).clamp_min(1e-12)
    quotient = (left / right).log()
    least = max(math.log(ratio), sigmas * math.sqrt(2 / reach))
    found = (quotient > least).nonzero().flatten()
    if not len(found):
        return None
    # the quotient rises over k values on the way to the jump; its top is the jump
    start = int(found[0])
    jump = start + int(quotient[start : start + 2 * reach].argmax())
    return float(odds[places[jump] - 1].sigmoid())


def _unrounded(values: Tensor) -> Tensor:
    """Spread (n,) values that are multiples of a coarse step evenly over what rounds to them.

    Returns none where the steps are so coarse that a smooth density jumps from one to the next.
    """
    seen = values.unique()
    seen = seen[seen > _ROUNDING]
    if not 1 < len(seen) <= 1 / _COARSE:
        return values
    step = common_step(seen.tolist(), _ROUNDING)
    if not _COARSE <= step <= _COARSEST + _ROUNDING:
        return values[:0] if step > _COARSE else values
    cells, counts = (values / step).round().unique(return_counts=True)
    places = torch.cat([(torch.arange(count) + 0.5) / count - 0.5 for count in counts.tolist()])
    spread: Tensor = step * (cells.repeat_interleave(counts) + places)
    return spread.clamp(0, 1)
