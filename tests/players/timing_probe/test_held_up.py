"""A peak of answers that wait by chance is no exit; one of images that go deeper is."""

import numpy as np
import pytest

from agents.timing_probe.held_up import held_up, strays_like
from agents.timing_probe.mixture import count_exits


def two_peaks(rng, *, share=0.1, n=400, repeats=1, of_images):
    """Log-times (n, repeats) about 0, or about 1 where an answer, or an image, is slow."""
    slow = rng.random((n, 1 if of_images else repeats)) < share
    return slow + 0.01 * rng.normal(size=(n, repeats))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_pauses_hit_the_reference_as_often_and_a_deep_exit_never(share):
    rng = np.random.default_rng(0)
    count = count_exits(two_peaks(rng, share=share, of_images=True)[:, 0])
    assert count.exits == 2
    assert strays_like(two_peaks(rng, share=share, n=300, of_images=False)[:, 0], count)
    assert not strays_like(0.01 * rng.normal(size=300), count)


def test_one_stray_reference_does_not_make_a_common_exit_a_pause():
    rng = np.random.default_rng(1)
    count = count_exits(two_peaks(rng, share=0.3, of_images=True)[:, 0])
    references = np.append(0.01 * rng.normal(size=100), 1.0)
    assert not strays_like(references, count)


@pytest.mark.parametrize("repeats", [2, 8])
def test_repeats_of_a_deep_image_agree_and_of_one_that_waited_do_not(repeats):
    rng = np.random.default_rng(2)
    for of_images in (True, False):
        logs = two_peaks(rng, share=0.05, repeats=repeats, of_images=of_images)
        count = count_exits(logs.mean(1))
        assert count.exits > 1
        assert held_up(logs, count.assign(logs.mean(1))[0], count) != of_images
