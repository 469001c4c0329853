"""Undoes perturbations of posteriors, given how they were made.

Three ways: take off the bias of a mean of many answers, take off the bump that a single answer
carries, and look served answers up in a table of pairs simulated with the known defence.

Source:
    Tang et al. 2024, ModelGuard: information-theoretic defense against model extraction attacks,
    USENIX Security (the look-up, its "Bayes" attack). The other two follow from the definitions
    of the defences.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_TINY = 1e-12

Simulation = Callable[[Tensor, float, torch.Generator], Tensor]
"""Maps (n, K) float64 clean posteriors, a strength and a generator to served ones."""


def without_bias(mean: Tensor, epsilon: float) -> Tensor:
    """Take the bias off the mean answer of a defence that mixes with random wrong classes.

    The mean of (1 - epsilon/2) y + (epsilon/2) e_t, with t uniform over the classes other than
    the top, is (1 - epsilon/2) y + (epsilon/2) u, u uniform over them.

    Args:
        mean: (n, K) mean answers to one image each.
        epsilon: L1 budget of the defence, below 2.

    Returns:
        (n, K) on the simplex; exact in the limit where the mean's top is the true one, which
        holds if y_top - y_k > epsilon / ((2 - epsilon) (K - 1)) for all others.
    """
    top = mean.argmax(1, keepdim=True)
    uniform = torch.full_like(mean, 1 / (mean.shape[1] - 1)).scatter(1, top, 0.0)
    return _on_simplex((mean - epsilon / 2 * uniform) / (1 - epsilon / 2))


def without_bump(answers: Tensor, epsilon: float) -> Tensor:
    """Take the bump off single answers of a defence that mixes with one wrong class.

    Candidates for the class are those with at least epsilon/2. Taking epsilon/2 off and scaling
    up repairs the answer if the candidate is right. Kept is the repaired one that has its top
    elsewhere and is most confident; an answer without any such candidate stays as it is.

    Args:
        answers: (n, K) float64 for exactness.
        epsilon: L1 budget of the defence, above 0 and below 2.

    Returns:
        (n, K) on the simplex. At epsilon 1 every answer comes back exactly, unless the clean one
        was one-hot to the last digit.
    """
    height = epsilon / 2
    fits = answers >= height - _slack(answers)
    bumps = torch.eye(answers.shape[1], dtype=answers.dtype, device=answers.device)
    repaired = (answers[:, None] - height * bumps) / (1 - height)  # (n, candidate, K)
    return _most_confident(answers, repaired.clamp_min(0), fits)


def without_vertex(answers: Tensor, epsilon: float) -> Tensor:
    """Take the bump off single answers of a defence that moves towards one class.

    Served is (1 - a) y + a e_k with an unknown a of at least epsilon/2, as prediction poisoning
    does with its one-hot oracle. What is left without class k, normalised, is y without y_k.

    Args:
        answers: (n, K).
        epsilon: L1 budget of the defence, above 0.

    Returns:
        (n, K) on the simplex, right up to the small true y_k, which is set to 0.
    """
    fits = answers >= epsilon / 2 - _slack(answers)
    bumps = torch.eye(answers.shape[1], dtype=torch.bool, device=answers.device)
    repaired = answers[:, None].masked_fill(bumps, 0.0)
    rest = repaired.sum(2)
    fits = fits & (rest > 1e-6)
    return _most_confident(answers, repaired / rest.clamp_min(_TINY)[..., None], fits)


def _slack(answers: Tensor) -> float:
    return 1e-6 if answers.dtype == torch.float32 else 1e-12


def _most_confident(answers: Tensor, repaired: Tensor, fits: Tensor) -> Tensor:
    """Choose among (n, candidate, K) repaired answers; the answers themselves where none fits."""
    candidates = torch.arange(repaired.shape[1], device=answers.device)
    fits = fits & (repaired.argmax(2) != candidates)
    confidence = repaired.amax(2).masked_fill(~fits, -1.0)
    best = confidence.argmax(1)
    chosen = repaired.gather(1, best[:, None, None].expand(-1, 1, repaired.shape[2]))[:, 0]
    return torch.where(fits.any(1, keepdim=True), _on_simplex(chosen), answers)


def _on_simplex(rows: Tensor) -> Tensor:
    rows = rows.clamp_min(0)
    return rows / rows.sum(1, keepdim=True).clamp_min(_TINY)


class LookUp:
    """Restores answers from the pairs of a table whose served side is nearest.

    Classes are told apart by rank alone: a defence that treats all alike needs one table for
    every order of the classes, so that both sides are kept in the order of the served one.

    Args:
        clean: (m, K) posteriors.
        served: (m, K) what the known defence serves for them.
        neighbours: pairs averaged for an answer.
    """

    def __init__(self, clean: Tensor, served: Tensor, *, neighbours: int = 8) -> None:
        if clean.shape != served.shape or not 1 <= neighbours <= len(clean):
            raise ValueError(
                f"expected two tables of one shape with at least {neighbours} rows, "
                f"got {tuple(clean.shape)} and {tuple(served.shape)}"
            )
        ordered, places = served.float().sort(1, descending=True)
        self._served, self._clean = ordered, clean.float().gather(1, places)
        self._neighbours = neighbours

    def __call__(self, answers: Tensor) -> Tensor:
        """Return (n, K) posteriors for (n, K) served answers, of their dtype."""
        ordered, places = answers.float().sort(1, descending=True)
        chunk = max(1, 20_000_000 // len(self._served))  # distances held at once
        found = torch.cat([self._nearest(part) for part in ordered.split(chunk)])
        restored = torch.empty_like(found).scatter(1, places, found)
        return _on_simplex(restored).to(answers.dtype)

    def _nearest(self, ordered: Tensor) -> Tensor:
        distances = torch.cdist(ordered, self._served)
        near = distances.topk(self._neighbours, 1, largest=False).indices
        return self._clean[near].mean(1)


def simulate(
    count: int,
    num_classes: int,
    *,
    defence: str,
    strength: float,
    prior: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Simulate pairs of clean and served posteriors of a known defence.

    Args:
        count: pairs.
        num_classes: K.
        defence: one of `SIMULATIONS`.
        strength: its budget or height.
        prior: concentration of the symmetric Dirichlet distribution that clean posteriors are
            drawn from; 0.2 gives mostly confident ones.
        generator: all chance.

    Returns:
        Clean and served, each (count, K) float64 on the generator's device.
    """
    shape = (count, num_classes)
    alpha = torch.full(shape, prior, dtype=torch.float64, device=generator.device)
    gamma = torch._standard_gamma(alpha, generator=generator).clamp_min(_TINY)
    clean = gamma / gamma.sum(1, keepdim=True)
    return clean, SIMULATIONS[defence](clean, strength, generator)


def mix_with_wrong_class(clean: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Mix each posterior with a random class other than its top (RandP)."""
    n, classes = clean.shape
    drawn = torch.randint(classes - 1, (n, 1), generator=generator, device=clean.device)
    target = drawn + (drawn >= clean.argmax(1, keepdim=True))
    return ((1 - epsilon / 2) * clean).scatter_add(
        1, target, torch.full_like(clean[:, :1], epsilon / 2)
    )


def take_wave_off(clean: Tensor, beta: float, generator: torch.Generator) -> Tensor:
    """Take a reverse sigmoid of steepness 0.2 off each posterior and normalise."""
    wave = torch.sigmoid(0.2 * torch.logit(clean, eps=1e-7)) - 0.5
    return _on_simplex(clean - beta * wave)


def move_to_wrong_class(clean: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Go from each posterior towards a random wrong class as far as the budget reaches."""
    n, classes = clean.shape
    drawn = torch.randint(classes - 1, (n, 1), generator=generator, device=clean.device)
    target = drawn + (drawn >= clean.argmax(1, keepdim=True))
    share = (epsilon / (2 * (1 - clean.gather(1, target)))).clamp_max(1)
    return ((1 - share) * clean).scatter_add(1, target, share)


def keep_top(serve: Simulation) -> Simulation:
    """Pull what a simulated defence serves back until the top class keeps a lead of 1e-4."""

    def served(clean: Tensor, strength: float, generator: torch.Generator) -> Tensor:
        after = serve(clean, strength, generator)
        top = clean.argmax(1, keepdim=True)
        lead = clean.gather(1, top) - clean
        lead_after = after.gather(1, top) - after
        lost = lead_after < 1e-4
        # the top's own lead is 0 before and after: it bounds nothing
        lost = lost.scatter(1, top, False)
        room = ((lead - 1e-4) / (lead - lead_after).clamp_min(_TINY)).clamp(0, 1)
        share = room.masked_fill(~lost, 1.0).amin(1, keepdim=True)
        return clean + share * (after - clean)

    return served


SIMULATIONS: Mapping[str, Simulation] = {
    "randp": mix_with_wrong_class,
    "reverse-sigmoid": take_wave_off,
    "p-poison": move_to_wrong_class,
}
"""Defences an attacker can simulate without the victim: those that treat all classes alike."""
