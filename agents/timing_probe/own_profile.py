"""Times the networks an attacker can imagine on the attacker's own machine.

Counted arithmetic does not tell how long a real processor takes: depthwise convolutions wait for
memory. Whoever has a machine like the server's builds the networks and times them there, in
processor time, which others at work on it hardly change.

Source:
    Profiles of many networks: Duddu et al. 2018, arXiv:1812.11720.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from agents.timing_probe.candidates import Candidate, candidates
from agents.timing_probe.kmeans import Floats
from envs.nets import registry
from envs.nets.folding import fold
from envs.nets.multi_exit import with_heads

_PASSES, _WARM_UP = 10, 2


class OwnProfile(NamedTuple):
    """What the attacker's machine says of the networks.

    Attributes:
        seconds: for each network (exits,) rising, its times at batch size 1.
        error: relative deviation of a time between two halves of the repeats: no comparison with
            these times can be better than that.
    """

    seconds: tuple[Floats, ...]
    error: float


@lru_cache(maxsize=4)
def own_profile(image_shape: tuple[int, int, int], num_classes: int) -> OwnProfile:
    """Time every candidate for images of a shape on this machine, once a process.

    A network is run several times in a row, because a server that answers with it alone finds its
    weights in the processor's caches.
    """
    listed = candidates(image_shape, num_classes)
    runs = [_Run(one, image_shape, num_classes).times() for one in listed]
    passes = np.concatenate(runs, 1)
    return summed_up(passes, [one.exits for one in listed])


def summed_up(passes: Floats, exits: Sequence[int]) -> OwnProfile:
    """Sum up repeated runs of several networks, by the least time of each exit.

    Whatever else happens on a machine only adds.

    Args:
        passes: (repeats, exits of all networks) seconds at which each exit was reached.
        exits: of each network.
    """
    halves = np.log(passes[::2].min(0)), np.log(passes[1::2].min(0))
    error = float(np.sqrt(np.mean((halves[0] - halves[1]) ** 2) / 2))
    parts = np.split(passes.min(0), np.cumsum(exits)[:-1])
    # an exit is never reached before the one in front of it, whatever noise says
    return OwnProfile(tuple(np.maximum.accumulate(part) for part in parts), error)


class _Run:
    """Runs a network of random weights through all its exits, and looks at the clock at each."""

    def __init__(
        self, candidate: Candidate, image_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        network = registry.build(
            candidate.architecture,
            num_classes=num_classes,
            image_shape=image_shape,
            generator=generator,
            **candidate.layout,
        )
        self._network = with_heads(network, generator=generator).requires_grad_(False).eval()
        fold(self._network)
        image = torch.full((1, *image_shape), 0.5)
        self._image = image.contiguous(memory_format=torch.channels_last)

    def times(self) -> Floats:
        """Return (passes, exits) seconds, after a few runs that do not count."""
        with torch.inference_mode():
            return np.stack([self._once() for _ in range(_WARM_UP + _PASSES)])[_WARM_UP:]

    def _once(self) -> Floats:
        """Return the (exits,) seconds from the image to each exit's answer."""
        began, reached, features = time.thread_time(), [], self._image
        for index in range(self._network.num_exits):
            features = self._network.run_segment(index, features)
            confidence = self._network.logits(index, features).double().softmax(1).amax()
            float(confidence)  # a server waits for it here, to tell whether the image leaves
            reached.append(time.thread_time() - began)
        return np.asarray(reached)
