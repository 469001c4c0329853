"""Countermeasures against timing, as defences."""

from functools import partial

import pytest
import torch

from envs.defences.base import Defence
from envs.defences.timing import Timing
from envs.exits.random_rules import ByHistogram
from envs.game.clocks import VirtualClock
from envs.latency.model import LatencyModel
from envs.nets.multi_exit import with_heads
from envs.seeding import Streams
from envs.victim.victim import Victim

MODEL = LatencyModel(noise=0.02)


@pytest.fixture
def fortress(digits_world):
    """A victim whose exits are equally frequent, drawn by image."""
    backbone = digits_world.victim().network.backbone
    generator = torch.Generator().manual_seed(0)
    # no head after the last stage: it would leave at the time of the final answer
    network = with_heads(backbone, generator=generator, exits=(0, 1, 2))
    return Victim(network, rule=ByHistogram([1.0] * network.num_exits, "hash"))


def serve(world, defence, victim, *, seed=0, strength=1.0, images=None):
    """Answer on the modelled clock; returns exits and seconds."""
    answer = defence.answer(
        victim,
        world.data.test.images() if images is None else images,
        clock=VirtualClock(MODEL, seed),
        generator=torch.Generator().manual_seed(seed),
        strength=strength,
    )
    return answer.exits, answer.latency


def harden(world, victim, **params):
    defence = Timing(**params)
    kit = world.kit(expected=partial(MODEL.expected, deviations=4))
    return defence, defence.harden(victim, kit)


def best_guess(exits, seconds):
    """Guess each exit by its nearest mean time; returns the share that is right."""
    means = torch.stack([seconds[exits == e].mean() for e in exits.unique()])
    guessed = (seconds[:, None] - means).abs().argmin(1)
    return (exits.unique()[guessed] == exits).double().mean().item()


def test_without_countermeasure_time_tells_the_exit(digits_world, fortress):
    exits, seconds = serve(digits_world, Defence(), fortress)
    assert best_guess(exits, seconds) > 0.9


def test_constant_time_tells_nothing(digits_world, fortress):
    """Specified: no better than guessing the most frequent exit, within 3 standard errors."""
    defence, victim = harden(digits_world, fortress, policy="constant")
    exits, seconds = serve(digits_world, defence, victim)
    chance = exits.bincount().max().item() / len(exits)
    error = (chance * (1 - chance) / len(exits)) ** 0.5
    assert best_guess(exits, seconds) <= chance + 3 * error
    assert len(seconds.unique()) <= 1 + len(seconds) // 1000  # one answer in 30,000 is late


def test_constant_time_takes_a_deadline(digits_world, fortress):
    defence, victim = harden(digits_world, fortress, policy="constant", seconds=0.5)
    _, seconds = serve(digits_world, defence, victim)
    assert (seconds == 0.5).all()


def test_padding_to_the_next_exit_serves_the_times_of_the_exits(digits_world, fortress):
    defence, victim = harden(digits_world, fortress, policy="next-exit")
    exits, seconds = serve(digits_world, defence, victim)
    times = torch.tensor(MODEL.expected(victim.profile, deviations=4), dtype=torch.float64)
    assert torch.equal(seconds, times[exits])  # noise alone is hidden; exits are not


def test_buckets_are_two(digits_world, fortress):
    defence, victim = harden(digits_world, fortress, policy="bucketed")
    exits, seconds = serve(digits_world, defence, victim)
    assert len(seconds.unique()) == 2
    middle = (victim.num_exits - 1) // 2
    slow = seconds == seconds.max()
    assert torch.equal(slow, exits > middle)


def test_levels_can_be_given(digits_world, fortress):
    defence, victim = harden(digits_world, fortress, policy="bucketed", levels=[0.1, 0.2])
    _, seconds = serve(digits_world, defence, victim)
    assert (seconds == 0.1).all()


def test_a_seeded_delay_repeats_by_image_and_never_delays_the_last_exit(digits_world, fortress):
    defence, victim = harden(digits_world, fortress, policy="seeded-delay", scale=0.002)
    images = digits_world.data.test.images()
    exits, sent = serve(digits_world, defence, victim)
    _, bare = serve(digits_world, Defence(), victim)
    delays = sent - bare
    assert (delays >= 0).all()
    assert (delays[exits == victim.num_exits - 1] == 0).all()
    assert (delays[exits == 0] > 0).double().mean() > 0.9
    _, other_bare = serve(digits_world, Defence(), victim, seed=1)
    _, other = serve(digits_world, defence, victim, seed=1, images=images)
    early = (exits == 0) & (sent < sent.max() * 0.9) & (other < other.max() * 0.9)
    torch.testing.assert_close((other - other_bare)[early], delays[early], atol=1e-9, rtol=0)


def test_no_countermeasure_sends_early(digits_world, fortress):
    _, bare = serve(digits_world, Defence(), fortress)
    for policy in ("constant", "next-exit", "bucketed", "seeded-delay"):
        defence, victim = harden(digits_world, fortress, policy=policy)
        _, sent = serve(digits_world, defence, victim)
        _, half = serve(digits_world, defence, victim, strength=0.5)
        assert (sent >= bare).all()
        torch.testing.assert_close(half, (bare + sent) / 2)


def test_without_a_model_of_the_server_its_exits_are_measured(digits_world, fortress):
    defence = Timing(policy="next-exit")
    defence.harden(fortress, digits_world.kit())
    levels = defence._padding.levels
    assert len(levels) == fortress.num_exits
    assert 0 < levels[0] <= levels[-1] < 60


def test_answers_stay_as_they_are(digits_world, fortress):
    defence, victim = harden(digits_world, fortress)
    images = digits_world.images
    clock = VirtualClock(MODEL, 0)
    served = defence.answer(victim, images, clock=clock, generator=Streams(0).torch("x"))
    bare = Defence().answer(victim, images, clock=clock, generator=Streams(0).torch("x"))
    assert torch.equal(served.posteriors, bare.posteriors)
    assert not served.fault


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"policy": "constnt"}, "expected a policy"),
        ({"levels": [0.1]}, "levels belong"),
        ({"policy": "bucketed", "seconds": 0.1}, "takes levels"),
        ({"scale": 0.1}, "scale belongs"),
        ({"seconds": -1.0}, "at least 0"),
    ],
)
def test_a_wrong_parameter_says_what_was_expected(params, message):
    with pytest.raises(ValueError, match=message):
        Timing(**params)
