"""Early exit on a device: every way to serve, by size of request and mix of exits."""

from collections.abc import Mapping

import torch

from arena.bench.device import Figures, in_turn, joules_of, summed_up, waits_of
from arena.bench.subjects import Planned, eight_exits, images, mix
from arena.bench.timing import Run, spread
from envs.exits.random_rules import ByHistogram
from envs.victim.victim import Victim


def measure(
    batch: int, mix_name: str, *, device: torch.device, width: float = 1.0, rounds: int = 30,
    window: float = 1.0,
) -> dict[str, Figures]:  # fmt: skip
    """Measure ways to serve one size of request and one mix of exits.

    Args:
        batch: images of a request.
        mix_name: see `arena.bench.subjects.mix`.
        device: where.
        width: factor on the channels of the ResNet34-8x with eight exits.
        rounds: samples of each way.
        window: seconds over which energy is measured.

    Returns:
        By way: `seconds` of a request with quartiles, `images_per_second`, `limit_share` (of the
        limit that the multiply-accumulates set, by the fastest whole network), `joules` per
        image and `waits` for the device per request, None where they cannot be measured.
    """
    plain = Victim(eight_exits(width).to(device))
    asked = images(batch).to(device)
    exits = mix(mix_name, batch, plain.num_exits).to(device)
    ways = _ways(plain, asked, exits)
    samples = in_turn(ways, device, rounds=rounds, warm_up=3)
    shares = torch.tensor(plain.profile.shares, dtype=torch.float64)
    share = float(shares[exits.cpu()].mean())
    whole = spread(samples["whole"]).median
    results = {}
    for name, run in ways.items():
        figures = summed_up(samples[name], batch)
        seconds = figures["seconds"] or 0.0
        figures["limit_share"] = whole * (1.0 if name == "whole" else share) / seconds
        joules = joules_of(run, device, seconds=window)
        figures["joules"] = None if joules is None else joules / batch
        figures["waits"] = waits_of(run, device)
        results[name] = figures
    return results


def _ways(plain: Victim, asked: torch.Tensor, exits: torch.Tensor) -> Mapping[str, Run]:
    unused = torch.Generator(device=asked.device)
    rule = Planned(exits, plain.num_exits)

    def served(victim: Victim) -> Run:
        return lambda: victim.answer(asked, generator=unused)

    network = plain.network
    victims = {
        "masked": Victim(network, rule=rule, execution="masked"),
        "compacted": Victim(network, rule=rule, execution="compacted"),
    }
    whole: Run = lambda: plain.posteriors(asked)  # noqa: E731 - it stands beside the others
    return {"whole": whole, **{name: served(victim) for name, victim in victims.items()}}


def gaps(*, device: torch.device, width: float = 1.0, repeats: int = 50) -> dict[str, float]:
    """Measure what the timing of single images tells of their exit.

    Returns:
        `exit E`: median seconds of an image that leaves at exit E, counted from 1; exits are
        measured in turn.
    """
    victim = Victim(eight_exits(width).to(device))
    count = victim.num_exits
    rules = [ByHistogram([float(e == wanted) for e in range(count)]) for wanted in range(count)]
    asked, unused = images(1).to(device), torch.Generator(device=device)
    seconds: list[list[float]] = [[] for _ in rules]
    served = [victim.with_rule(rule) for rule in rules]
    for number in range(repeats + 5):
        for index, at_exit in enumerate(served):
            taken = float(at_exit.answer_each(asked, generator=unused)[1])
            if number >= 5:
                seconds[index].append(taken)
    return {f"exit {e + 1}": spread(samples).median for e, samples in enumerate(seconds)}
