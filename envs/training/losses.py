"""The terms of the fortress's objective: bounds on information, and entropies of answers.

Two images' worth of theory. An exit head turns an image X into a code Z and an answer. For
in-distribution images the objective asks for a code that tells the label (low cross-entropy)
and little else (low `gaussian_rate`); for out-of-distribution images for a code that tells
nothing of the victim's label (`clamped_club` or `marginal_information`) but much of the image
(`info_nce`, or a decoder's squared error). Entropies of the answers push the former deep into
the network and the latter out early. Everything here is a pure function, in nats.

Source:
    Luan et al., Dynamic Neural Fortresses, ICLR 2025, equations 1 to 4. The paper's estimators
    are not published; those here are ours, each with its own reference.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_FLOOR = math.log(1e-4)
"""Least log-probability a probe is believed to give; it bounds the label term."""
_TINY = 1e-12


def gaussian_rate(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Measure how much a Gaussian code tells about its image.

    The rate is the KL divergence of the code from the standard normal; its mean over images is
    an upper bound of I(X; Z).

    Args:
        mean: (n, width) float32, means of the codes.
        log_variance: (n, width) float32, natural logarithms of their variances.

    Returns:
        (n,) float32 in nats, >= 0, and 0 where both inputs are 0.

    Raises:
        ValueError: the shapes differ or are not (n, width).

    Source:
        Kingma and Welling 2014, arXiv:1312.6114, appendix B; as a rate in Alemi et al. 2017,
        arXiv:1612.00410.

    Example:
        >>> import torch
        >>> gaussian_rate(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
        tensor([0.5000])
    """
    if mean.ndim != 2 or mean.shape != log_variance.shape:
        raise ValueError(
            f"expected two tensors of one shape (n, width), "
            f"got {tuple(mean.shape)} and {tuple(log_variance.shape)}"
        )
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def answer_entropy(logits: Tensor) -> Tensor:
    """Measure the uncertainty of each answer (equation 1), from its (n, K) logits.

    Returns:
        (n,) in nats, between 0 and log K.
    """
    log_posteriors = F.log_softmax(logits, 1)
    return -(log_posteriors.exp() * log_posteriors).sum(1)


def entropy_sign(exit_index: int, num_exits: int, *, ood: bool) -> int:
    """Return the sign K(i) or J(i) that an exit's entropy has in the minimised loss.

    In-distribution images (K): -1 at early exits, which must not be confident, +1 at the last.
    Out-of-distribution images (J): the reverse, so that they leave early.

    Args:
        exit_index: exit, counted from 0.
        num_exits: all exits, the final one included.
        ood: True for J, False for K.
    """
    if not 0 <= exit_index < num_exits:
        raise ValueError(f"expected an exit from 0 to {num_exits - 1}, got {exit_index}")
    k = 1 if exit_index == num_exits - 1 else -1
    return -k if ood else k


def clamped_club(log_probe: Tensor, labels: Tensor) -> Tensor:
    """Bound I(Z; Y) from above by what a probe reads out of the code, clamped at 0.

    The contrastive log-ratio bound: the probe's mean log-probability of the true pairs minus
    that of all pairs. An upper bound if the probe were exact. Log-probabilities are floored at
    log 1e-4, so that one wrong pair cannot earn without limit.

    Args:
        log_probe: (n, K), log q(y|z) of the probe; gradients flow into z through it.
        labels: (n,) int64, the label of each code.

    Returns:
        0-d, in nats, between 0 and -log 1e-4.

    Source:
        Cheng et al. 2020, CLUB, arXiv:2006.12013, equation 6; floor and clamp are ours.
    """
    floored = log_probe.clamp_min(LOG_FLOOR)
    joint = floored.gather(1, labels[:, None]).mean()
    frequency = F.one_hot(labels, log_probe.shape[1]).to(log_probe.dtype).mean(0)  # (K,)
    independent = (floored * frequency).sum(1).mean()
    return (joint - independent).clamp_min(0)


def class_means(posteriors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Average answers by label.

    Args:
        posteriors: (n, K) on the simplex.
        labels: (n,) int64 below K.

    Returns:
        (K, K) mean answer of each label (zeros where the label is absent), (K,) label shares.
    """
    member = F.one_hot(labels, posteriors.shape[1]).to(posteriors.dtype)  # (n, K)
    counts = member.sum(0)
    sums = member.T @ posteriors
    return sums / counts.clamp_min(1)[:, None], counts / len(labels)


def marginal_information(posteriors: Tensor, labels: Tensor) -> Tensor:
    """Measure how much served answers tell of the labels, by matching class marginals.

    sum over c of share_c * KL(mean answer where the label is c || mean answer). It is the
    information between the label and a class drawn from the served answer: the quantity an
    attacker sees. As an estimate of I(Z; Y) it is a lower bound (data processing).

    Args:
        posteriors: (n, K) float32 on the simplex.
        labels: (n,) int64.

    Returns:
        0-d in nats, between 0 (all answers alike) and log K (answers copy uniform labels).
    """
    means, shares = class_means(posteriors, labels)
    return information_of_means(means, shares, posteriors.mean(0))


def information_of_means(means: Tensor, shares: Tensor, marginal: Tensor) -> Tensor:
    """Return the Jensen-Shannon information of (K, K) class means with their (K,) shares."""
    conditional = (shares * _entropy(means)).sum()
    return (_entropy(marginal) - conditional).clamp_min(0)


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Return the mean cross-entropy of (n, K) answers to the uniform one; least value log K.

    It conflicts with early leaving: uniform answers pass no threshold.
    """
    return -F.log_softmax(logits, 1).mean()


def collapse(posteriors: Tensor) -> Tensor:
    """Measure how far the (n, K) answers share one class: minus the entropy of their mean.

    Returns:
        0-d in nats, between -log K (all classes served alike) and 0 (one class for all).
    """
    return -_entropy(posteriors.mean(0))


def info_nce(codes: Tensor, details: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Bound I(X; Z) from below by telling each image's details from those of its batch.

    Args:
        codes: (n, d) projected codes.
        details: (n, d) details of the same images, in the same order.
        temperature: divides the cosine similarities.

    Returns:
        0-d in nats, at most log n.

    Source:
        van den Oord et al. 2018, arXiv:1807.03748, equation 4.
    """
    similarity = F.normalize(codes, dim=1) @ F.normalize(details, dim=1).T / temperature
    targets = torch.arange(len(codes), device=codes.device)
    return math.log(len(codes)) - F.cross_entropy(similarity, targets)


def released_loss(
    logits: Sequence[Tensor], labels: Tensor, *, alpha: Sequence[float], ood: bool
) -> Tensor:
    """Return one half of the loss of the authors' released code.

    In distribution: sum over exits of cross-entropy, minus alpha times the entropy of early
    exits, plus alpha times that of the last. Outside it: the same with the entropies' signs
    turned. The cross-entropy to a pseudo-label keeps its sign, so agreement is *raised*, the
    reverse of equation 3; that is what the released code does.

    Args:
        logits: (n, K) of each exit, the final one last.
        labels: (n,) int64, true labels, or pseudo-labels of OOD images.
        alpha: weight of the entropies, one per exit.
        ood: whether the images are out of distribution.

    Source:
        SYCodeShare/Dynamic-Neural-Fortresses (2025), training of the exits.
    """
    total = logits[0].new_zeros(())
    for index, (answers, weight) in enumerate(zip(logits, alpha, strict=True)):
        sign = entropy_sign(index, len(logits), ood=ood)
        total = total + F.cross_entropy(answers, labels)
        total = total + weight * sign * answer_entropy(answers).mean()
    return total


def _entropy(posteriors: Tensor) -> Tensor:
    """Return the entropy over the last dimension; 0 log 0 is 0, with a finite gradient."""
    return -(posteriors * posteriors.clamp_min(_TINY).log()).sum(-1)
