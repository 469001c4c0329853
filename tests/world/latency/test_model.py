"""Claims about modelled latency, networks, clocks and padding."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from envs.errors import UnknownName
from envs.exits.rules import Thresholds
from envs.game.clocks import Untimed, VirtualClock, WallClock, make_clock
from envs.latency.model import (
    COSTS,
    DRIFTS,
    NETWORKS,
    DeviceCost,
    LatencyModel,
    Network,
    ShareCost,
    make_model,
    uniforms,
)
from envs.latency.padding import ConstantTime, InputSeededDelay, PadToLevels, thumbnails
from envs.nets.exit_cost import ExitProfile
from envs.nets.multi_exit import with_heads
from envs.nets.registry import build
from envs.seeding import Streams
from envs.victim.victim import Victim

# ResNet34-8x, exits after the four stages and the classifier (networks.md shares)
RESNET34 = ExitProfile(
    macs=(228_300_000, 513_500_000, 949_700_000, 1_159_400_000, 1_159_400_000),
    ops=(10, 20, 30, 40, 41),
    weight_bytes=(1000, 2000, 3000, 4000, 4100),
)
SILENT = LatencyModel(noise=0.0)


def mixed(count: int) -> torch.Tensor:
    return torch.randint(0, 5, (count,), generator=Streams(0).torch("exits"))


def test_the_simple_channel_by_hand():
    seconds = SILENT.seconds(torch.arange(5), RESNET34, seed=1, first=0)
    share = [macs / 1_159_400_000 for macs in RESNET34.macs]
    assert seconds.tolist() == pytest.approx([1e-3 + 4e-3 * value for value in share], rel=1e-12)
    assert seconds.dtype == torch.float64


def test_a_device_by_hand():
    cost = DeviceCost(overhead=1e-3, per_op=1e-5, per_byte=1e-9, flops_per_second=1e12)
    profile = ExitProfile(macs=(10**9, 3 * 10**9), ops=(10, 30), weight_bytes=(10**6, 2 * 10**6))
    seconds = LatencyModel(cost, noise=0).seconds(torch.tensor([0, 1]), profile, seed=0, first=0)
    assert seconds.tolist() == pytest.approx(
        [1e-3 + 1e-4 + 1e-3 + 2e-3, 1e-3 + 3e-4 + 2e-3 + 6e-3], rel=1e-12
    )


def test_a_batch_that_is_returned_at_its_end_takes_the_sum_of_its_live_segments():
    cost = ShareCost(overhead=1.0, whole=10.0)
    profile = ExitProfile(macs=(2, 5, 10), ops=(1, 1, 1), weight_bytes=(1, 1, 1))
    exits = torch.tensor([0, 0, 1, 2])
    # 4 images for 2 s, 2 for 3 s, 1 for 5 s
    end = LatencyModel(cost, noise=0, returns="end_of_batch")
    assert end.seconds(exits, profile, seed=0, first=0).tolist() == pytest.approx([20.0] * 4)
    each = LatencyModel(cost, noise=0, returns="per_exit")
    assert each.seconds(exits, profile, seed=0, first=0).tolist() == pytest.approx([9, 9, 15, 20])
    early = end.seconds(torch.tensor([0, 0]), profile, seed=0, first=0)
    assert early.tolist() == pytest.approx([5.0, 5.0])  # nobody is left for the later segments


def test_copies_of_an_image_in_one_request_multiply_its_time_but_not_the_overhead():
    model = LatencyModel(ShareCost(1.0, 10.0), noise=0, returns="end_of_batch")
    profile = ExitProfile(macs=(5, 10), ops=(1, 1), weight_bytes=(1, 1))
    seconds = model.seconds(torch.zeros(64, dtype=torch.int64), profile, seed=0, first=0)
    assert seconds[0].item() == pytest.approx(1 + 64 * 5)


@pytest.mark.parametrize("load", DRIFTS)
@pytest.mark.parametrize("server", COSTS)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_split_of_the_queries_changes_no_latency(server, load, batch):
    model, exits = make_model(server, load=load), mixed(200)
    whole = model.seconds(exits, RESNET34, seed=9, first=1000)
    parts = [
        model.seconds(part, RESNET34, seed=9, first=1000 + i * batch)
        for i, part in enumerate(torch.split(exits, batch))
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_noise_is_lognormal_with_its_deviation_and_differs_by_seed():
    exits = torch.full((20_000,), 4)
    log = make_model(noise=0.05).seconds(exits, RESNET34, seed=1, first=0).log().numpy()
    assert stats.kstest((log - math.log(5e-3)) / 0.05, "norm").pvalue > 1e-3
    other = make_model(noise=0.05).seconds(exits, RESNET34, seed=2, first=0).log().numpy()
    assert abs(np.corrcoef(log, other)[0, 1]) < 0.03


@pytest.mark.parametrize("load", ["shared", "noisy"])
def test_drift_is_correlated_as_measured(load):
    exits = torch.full((50_000,), 4)
    model = make_model(noise=0.0, load=load)
    log = model.seconds(exits, RESNET34, seed=4, first=0).log().numpy()
    assert log.std() == pytest.approx(DRIFTS[load], rel=0.03)
    for lag in (1, 2, 4):
        correlation = np.corrcoef(log[:-lag], log[lag:])[0, 1]
        assert correlation == pytest.approx(0.65**lag, abs=0.03)


def test_uniforms_are_a_function_of_seed_and_index():
    whole = uniforms(5, 0, 10_000)
    assert np.array_equal(whole[37:41], uniforms(5, 37, 4))
    assert not np.array_equal(whole[:4], uniforms(6, 0, 4))
    assert whole.min() > 0
    assert whole.max() < 1
    for column in range(8):
        assert stats.kstest(whole[:, column], "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(whole.T) - np.eye(8)).max() < 0.05


def test_expected_deadlines_leave_room_for_noise():
    model = make_model(noise=0.05, load="shared")
    late = model.expected(RESNET34, deviations=4)
    assert model.expected(RESNET34)[-1] == pytest.approx(5e-3)
    assert late[-1] == pytest.approx(5e-3 * math.exp(4 * math.hypot(0.05, 0.15)))
    seconds = model.seconds(torch.full((20_000,), 4), RESNET34, seed=3, first=0)
    assert (seconds > late[-1]).double().mean() < 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_only_adds_and_a_split_changes_nothing(name):
    network, seconds = NETWORKS[name], torch.full((500,), 2e-3, dtype=torch.float64)
    whole = network.deliver(seconds, image_bytes=3072, seed=1, first=40)
    parts = [
        network.deliver(part, image_bytes=3072, seed=1, first=40 + 30 * i)
        for i, part in enumerate(torch.split(seconds, 30))
    ]
    assert torch.equal(torch.cat(parts), whole)
    floor = 2e-3 + network.round_trip + 3072 / network.bytes_per_second
    assert (whole >= floor).all()
    assert whole.min().item() == pytest.approx(floor, abs=network.jitter / 20)


@pytest.mark.parametrize(
    ("family", "law"),
    [
        ("exponential", stats.expon(scale=0.01)),
        ("lognormal", stats.lognorm(1.0, scale=0.01)),
        ("gaussian", stats.norm(scale=0.01)),
    ],
)
def test_jitter_has_the_family_it_is_called_by(family, law):
    network = Network(1.0, 0.01, family, spike_share=0.0)
    delays = network.deliver(torch.zeros(20_000).double(), image_bytes=1, seed=2, first=0) - 1.0
    assert stats.kstest(delays.numpy(), law.cdf).pvalue > 1e-3


def test_spikes_and_windows_come_as_often_as_told():
    spiky = Network(0.0, 0.01, spike_share=0.05, window=0.0)
    calm = Network(0.0, 0.01, spike_share=0.0, window=0.0)
    zeros = torch.zeros(20_000).double()
    added = spiky.deliver(zeros, image_bytes=1, seed=2, first=0) - calm.deliver(
        zeros, image_bytes=1, seed=2, first=0
    )
    assert set(added.round(decimals=9).unique().tolist()) == {0.0, 0.1}
    assert (added > 0).double().mean().item() == pytest.approx(0.05, abs=0.006)
    window = Network(0.0, 0.0, window=0.2).deliver(zeros, image_bytes=1, seed=2, first=0)
    assert stats.kstest(window.numpy() / 0.2, "uniform").pvalue > 1e-3


def test_a_request_that_travels_together_waits_together():
    seconds = torch.full((32,), 1e-3, dtype=torch.float64)
    network = Network(0.01, 1e-3, bytes_per_second=1e6, spike_share=0.0)
    whole = network.deliver(seconds, image_bytes=1000, seed=1, first=0, together=True)
    assert len(whole.unique()) == 1
    assert whole[0] > 1e-3 + 0.01 + 32 * 1e-3


def test_a_gaussian_network_never_answers_before_it_is_asked():
    network = Network(0.001, 0.1, "gaussian")
    assert (network.deliver(torch.zeros(5000).double(), image_bytes=1, seed=0, first=0) >= 0).all()


def test_unknown_presets_suggest_a_known_one():
    with pytest.raises(UnknownName, match="did you mean 'cpu'"):
        make_model("cpus")
    with pytest.raises(UnknownName, match="did you mean 'noisy'"):
        make_model(load="nosy")


@pytest.mark.parametrize("options", [{"noise": -1.0}, {"drift": -0.1}, {"memory": 1.0}])
def test_models_without_a_meaning_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        LatencyModel(**options)


# padding


def test_constant_time_tells_nothing_about_the_exit():
    model, exits = make_model(noise=0.05), mixed(20_000)
    latency = model.seconds(exits, RESNET34, seed=7, first=0)
    deadline = model.expected(RESNET34, deviations=4)[-1]
    padded = ConstantTime(deadline).apply(latency, exits, torch.zeros(20_000, 1, 1, 1))
    assert (padded >= latency).all()
    assert (padded == deadline).double().mean() > 0.999
    # the best guess of the exit from the time is no better than the most frequent exit
    guessed = torch.where(padded > deadline, 4, torch.bincount(exits).argmax())
    base = (exits == torch.bincount(exits).argmax()).double().mean()
    assert (guessed == exits).double().mean() <= base + 3 * math.sqrt(0.25 / 20_000)


def test_levels_send_an_answer_at_the_next_one():
    latency = torch.tensor([0.5, 1.0, 1.5, 2.5, 3.0], dtype=torch.float64)
    padded = PadToLevels([2.0, 1.0]).apply(latency, mixed(5), torch.zeros(5, 1, 1, 1))
    assert padded.tolist() == [1.0, 1.0, 2.0, 2.5, 3.0]


def test_an_input_seeded_delay_repeats_and_never_passes_the_whole_network():
    images = torch.rand((4000, 1, 8, 8), generator=Streams(0).torch("images"))
    exits, latency = mixed(4000), torch.full((4000,), 1e-3, dtype=torch.float64)
    shield = InputSeededDelay(2e-3, 5e-3, last_exit=4, key=3)
    first, second = (shield.apply(latency, exits, images) for _ in range(2))
    assert torch.equal(first, second)
    assert (first >= latency).all()
    assert (first <= 5e-3).all()
    assert torch.equal(first[exits == 4], latency[exits == 4])
    early = exits < 4
    assert first[early].std() > 5e-4
    other = InputSeededDelay(2e-3, 5e-3, last_exit=4, key=4).apply(latency, exits, images)
    assert not torch.equal(other, first)


def test_an_input_seeded_delay_is_half_normal():
    images = torch.rand((20_000, 1, 8, 8), generator=Streams(0).torch("images"))
    exits, latency = torch.zeros(20_000, dtype=torch.int64), torch.zeros(20_000).double()
    shield = InputSeededDelay(1e-3, 1.0, last_exit=4, key=3, perceptual=False)
    delay = shield.apply(latency, exits, images)
    assert stats.kstest(delay.numpy() / 1e-3, "halfnorm").pvalue > 1e-3


def test_a_delay_that_is_already_beyond_the_whole_network_stays():
    latency = torch.tensor([9.0], dtype=torch.float64)
    shield = InputSeededDelay(1.0, 5.0, last_exit=4, key=0)
    assert shield.apply(latency, torch.tensor([0]), torch.zeros(1, 1, 8, 8)).item() == 9.0


def test_an_invisible_change_draws_no_new_delay_where_the_seed_is_perceptual():
    generator = Streams(0).torch("images")
    # blocks of 4x4 pixels around the middle of a grey level
    levels = torch.randint(0, 16, (50, 1, 8, 8), generator=generator)
    pixels = (levels * 16 + 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    images = pixels.float() / 255
    changed = images.clone()
    changed[:, :, 5, 5] += 1 / 255
    exits, latency = torch.zeros(50, dtype=torch.int64), torch.zeros(50).double()
    for perceptual in (True, False):
        shield = InputSeededDelay(1.0, 9.0, last_exit=4, key=1, perceptual=perceptual)
        delays = [shield.apply(latency, exits, shown) for shown in (images, changed)]
        assert torch.equal(*delays) == perceptual
    assert torch.equal(thumbnails(images), levels.double() / 15)


def test_padding_without_a_meaning_is_refused():
    for make in (
        lambda: ConstantTime(-1.0),
        lambda: PadToLevels([]),
        lambda: ConstantTime(math.inf),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()


# clocks


@pytest.fixture(scope="module")
def victim() -> Victim:
    generator = Streams(0).torch("network")
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=generator)
    return Victim(with_heads(backbone, generator=generator))


def pictures(count: int) -> torch.Tensor:
    return torch.rand((count, 1, 8, 8), generator=Streams(0).torch("images"))


def serve(clock, victim, images, *, batch=None):
    seconds = []
    for part in torch.split(images, batch or len(images)):
        _, served = clock.serve(victim, part, generator=torch.Generator(), ood=False)
        seconds.append(clock.deliver(served, part))
    return torch.cat(seconds)


@pytest.mark.parametrize("network", [None, NETWORKS["wan"]])
def test_a_virtual_clock_repeats_and_ignores_the_split_into_requests(victim, network):
    def run(batch):
        clock = VirtualClock(make_model("cpu", load="noisy"), 11, network=network)
        return serve(clock, victim, pictures(60), batch=batch)

    whole = run(None)
    assert torch.equal(whole, run(None))
    assert torch.equal(whole, run(7))
    assert len(whole.unique()) == 60


def test_a_virtual_clock_shows_the_exit_an_answer_left_from(victim):
    early = victim.with_rule(Thresholds([0.0] * 4))
    clock = VirtualClock(LatencyModel(noise=0.0), 0)
    shares = victim.profile.shares
    assert serve(clock, early, pictures(3))[0].item() == pytest.approx(1e-3 + 4e-3 * shares[0])
    assert serve(clock, victim, pictures(3))[0].item() == pytest.approx(5e-3)


@pytest.mark.usefixtures("a_millisecond_a_segment")
def test_a_wall_clock_measures_each_image_by_what_it_ran_and_answers_the_same(victim):
    images, generator = pictures(40), torch.Generator()
    answer, seconds = WallClock(0, warm_up=3).serve(victim, images, generator=generator, ood=False)
    torch.testing.assert_close(answer.posteriors, victim.posteriors(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(seconds, torch.full((40,), 5e-3, dtype=torch.float64))
    early = victim.with_rule(Thresholds([0.0] * 4))
    seconds = WallClock(0).serve(early, images, generator=generator, ood=False)[1]
    torch.testing.assert_close(seconds, torch.full((40,), 1e-3, dtype=torch.float64))


def test_the_clock_of_an_episode_follows_its_mode(victim):
    streams = Streams(3)
    assert isinstance(make_clock("none", streams), Untimed)
    assert isinstance(make_clock("wall", streams), WallClock)
    one, two = (make_clock("virtual", streams) for _ in range(2))
    assert torch.equal(serve(one, victim, pictures(5)), serve(two, victim, pictures(5)))
    _, seconds = Untimed().serve(victim, pictures(2), generator=torch.Generator(), ood=False)
    assert seconds is None
    with pytest.raises(ValueError, match="expected latency"):
        make_clock("sundial", streams)
