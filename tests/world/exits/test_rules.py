"""Claims about exit rules, on logits written down by hand."""

import math

import pytest
import torch

from envs.exits.random_rules import ByFlag, ByHistogram, CoinThresholds, PassingAtRandom
from envs.exits.rules import (
    PUBLISHED,
    ExitRule,
    FinalOnly,
    Thresholds,
    from_log_odds,
    log_odds,
    rounding,
    to_log_odds,
)
from envs.seeding import Streams

CLASSES = 10


def stream(name: str = "rule") -> torch.Generator:
    return Streams(3).torch(name)


def confident(*confidences: float) -> torch.Tensor:
    """Logits of two classes whose top confidence is as told."""
    return torch.tensor([[to_log_odds(value), 0.0] for value in confidences], dtype=torch.float64)


def all_exits(rows: list[list[float]]) -> torch.Tensor:
    """(N, n, 2) logits out of confidences, one row per exit."""
    return torch.stack([confident(*row) for row in rows])


def images(count: int) -> torch.Tensor:
    return torch.rand((count, 1, 4, 4), generator=stream("images"))


def chosen(rule: ExitRule, logits: torch.Tensor, shown: torch.Tensor, *, ood=False, seed=3):
    generator = Streams(seed).torch("rule")
    return rule.choose(logits, rule.begin(shown, generator=generator, ood=ood))


def test_log_odds_agree_with_the_softmax_where_it_does_not_saturate():
    logits = torch.randn((100, CLASSES), generator=stream())
    top = logits.double().softmax(1).amax(1)
    torch.testing.assert_close(log_odds(logits), torch.log(top / (1 - top)))


def test_log_odds_of_equal_logits_are_minus_log_of_the_other_classes():
    assert log_odds(torch.zeros(1, CLASSES)).item() == pytest.approx(-math.log(CLASSES - 1))


def test_thresholds_tell_confidences_apart_that_both_round_to_one():
    logits = torch.zeros(2, 3)
    logits[0, 1], logits[1, 1] = 50, 60
    assert (logits.softmax(1).amax(1) == 1).all()
    rule = Thresholds.from_log_odds([55.0])
    assert rule.leaves(0, logits, torch.empty(2, 0)).tolist() == [False, True]


def test_log_odds_beyond_floats_are_certainties():
    assert (from_log_odds(-800.0), from_log_odds(800.0)) == (0.0, 1.0)


def test_rounding_grows_with_logits_beyond_16_nats_of_either_sign():
    logits = torch.tensor([[0.0, 1.0], [16.0, 0.0], [0.0, 32.0], [-64.0, -1.0]])
    torch.testing.assert_close(rounding(logits, 0.5), torch.tensor([0.5, 0.5, 1.0, 2.0]).double())


def test_only_choices_that_rounding_could_turn_are_unsure():
    """Within 0.1 nats of a threshold on either side; the last exit decides nothing."""
    edge = to_log_odds(0.9)
    offsets = [[-0.2, -0.05, 0.05, 0.2, 3.0], [3.0, 3.0, 3.0, 3.0, 0.05], [-edge] * 5, [0.0] * 5]
    odds = edge + torch.tensor(offsets, dtype=torch.float64)
    logits = torch.stack([odds, torch.zeros_like(odds)], 2)
    rule = Thresholds([0.9, 0.9, 1.0])
    unsure = rule.unsure(logits, torch.empty(5, 0), tolerance=0.1)
    assert unsure.tolist() == [False, True, True, False, True]


def test_a_confidence_at_its_threshold_stays():
    rule = Thresholds([0.75])
    edge = to_log_odds(0.75)
    logits = torch.tensor([[edge, 0.0], [math.nextafter(edge, 9), 0.0]], dtype=torch.float64)
    assert rule.leaves(0, logits, torch.empty(2, 0)).tolist() == [False, True]


def test_confidence_and_log_odds_are_inverse():
    for value in (1e-9, 0.1, 0.5, *PUBLISHED, 1 - 1e-9):
        assert from_log_odds(to_log_odds(value)) == pytest.approx(value, rel=1e-12)
    assert to_log_odds(0.0) == -math.inf
    assert to_log_odds(1.5) == math.inf


def test_the_published_thresholds_are_those_of_the_released_code():
    assert PUBLISHED == (0.90, 0.92, 0.94, 0.96)
    assert Thresholds().values == pytest.approx(PUBLISHED)


def test_the_first_exit_that_is_passed_is_taken():
    logits = all_exits([[0.95, 0.80, 0.80], [0.99, 0.95, 0.80], [0.6, 0.6, 0.6]])
    exits = chosen(Thresholds([0.9, 0.9]), logits, images(3))
    assert exits.tolist() == [0, 1, 2]


def test_final_only_lets_nobody_leave():
    logits = all_exits([[1 - 1e-12] * 2] * 3)
    assert chosen(FinalOnly(), logits, images(2)).tolist() == [2, 2]


def test_a_coin_that_always_says_leave_gives_the_plain_thresholds():
    logits = torch.randn((4, 200, CLASSES), generator=stream()) * 3
    shown = images(200)
    plain = chosen(Thresholds([0.5, 0.6, 0.7]), logits, shown)
    assert torch.equal(chosen(CoinThresholds([0.5, 0.6, 0.7], 1.0), logits, shown), plain)
    assert (chosen(CoinThresholds([0.5, 0.6, 0.7], 0.0), logits, shown) == 3).all()


def test_a_coin_takes_each_passed_exit_with_its_probability():
    count, take = 40_000, 0.3
    logits = all_exits([[0.99] * count, [0.99] * count, [0.99] * count])
    rule = CoinThresholds([0.9, 0.9], take, seeding="fresh")
    shares = torch.bincount(chosen(rule, logits, torch.zeros(count, 1, 2, 2))) / count
    expected = torch.tensor([take, (1 - take) * take, (1 - take) ** 2])
    assert ((shares - expected).abs() < 4 * (expected / count).sqrt()).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda seeding: CoinThresholds([0.9, 0.9], 0.5, seeding=seeding, key=7),
        lambda seeding: PassingAtRandom([0.9, 0.9], seeding=seeding, key=7),
        lambda seeding: ByHistogram([1, 1, 1], seeding, key=7),
    ],
)
def test_hash_seeding_repeats_an_exit_and_fresh_seeding_does_not(build):
    logits, shown = all_exits([[0.95] * 64] * 3), images(64)
    hashed, fresh = build("hash"), build("fresh")
    first, second = (chosen(hashed, logits, shown, seed=seed) for seed in (1, 2))
    assert torch.equal(first, second)
    assert len(first.unique()) == 3
    assert not torch.equal(*(chosen(fresh, logits, shown, seed=seed) for seed in (1, 2)))


def test_two_keys_of_a_hash_give_unrelated_exits():
    logits, shown = all_exits([[0.95] * 64] * 3), images(64)
    one, two = (CoinThresholds([0.9, 0.9], 0.5, key=key) for key in (1, 2))
    assert not torch.equal(chosen(one, logits, shown), chosen(two, logits, shown))


def test_passing_at_random_weighs_the_passing_exits_by_their_excess():
    # excess 1 nat at exit 0, 2 nats at exit 2, exit 1 not passed, last weight 3
    count, sharpness = 60_000, 0.7
    base = to_log_odds(0.9)
    odds = torch.tensor([base + 1, base - 1, base + 2, 0.0], dtype=torch.float64)
    logits = torch.stack([odds, torch.zeros(4, dtype=torch.float64)], 1)[:, None].expand(
        4, count, 2
    )
    rule = PassingAtRandom([0.9] * 3, sharpness, last_weight=3.0, seeding="fresh")
    shares = torch.bincount(chosen(rule, logits, torch.zeros(count, 1, 2, 2)), minlength=4) / count
    weights = torch.tensor([math.exp(sharpness), 0.0, math.exp(2 * sharpness), 3.0])
    expected = weights / weights.sum()
    assert shares[1] == 0
    assert ((shares - expected).abs() < 4 * (expected / count).sqrt() + 1e-9).all()


def test_passing_at_random_without_a_last_weight_still_ends_somewhere():
    logits = all_exits([[0.95, 0.5], [0.5, 0.5], [0.99, 0.99]])
    rule = PassingAtRandom([0.9, 0.9], last_weight=0.0, seeding="fresh")
    for seed in range(20):
        assert chosen(rule, logits, images(2), seed=seed).tolist() == [0, 2]


def test_a_draw_close_to_a_step_is_unsure_the_more_so_for_large_logits_and_sharp_rules():
    """Three exits of equal weight, so that the steps lie at 1/3 and 2/3."""
    odds = torch.full((5,), to_log_odds(0.9) + 3, dtype=torch.float64)
    odds = torch.stack([odds, odds, torch.tensor([0.0, 0, 0, 0, 64]).double()])
    logits = torch.stack([odds, torch.zeros_like(odds)], 2)
    state = torch.tensor([[0.1], [0.27], [0.3], [0.68], [0.5]], dtype=torch.float64)
    for sharpness, expected in ((0.0, [0, 0, 1, 1, 1]), (2.0, [0, 1, 1, 1, 1])):
        last = math.exp(3 * sharpness)
        rule = PassingAtRandom([0.9, 0.9], sharpness, last_weight=last)
        assert rule.unsure(logits, state, tolerance=0.05).int().tolist() == expected


def test_a_histogram_draws_its_shares_whatever_the_image():
    count, weights = 50_000, [0.5, 0.0, 0.2, 0.3]
    logits = torch.zeros(4, count, 2)
    exits = chosen(ByHistogram(weights), logits, torch.zeros(count, 1, 2, 2))
    shares = torch.bincount(exits, minlength=4) / count
    assert shares[1] == 0
    assert ((shares - torch.tensor(weights)).abs() < 4 * math.sqrt(0.25 / count)).all()


def test_a_histogram_without_a_last_exit_never_gets_there():
    exits = chosen(
        ByHistogram([0.1, 0.2, 0.0]), torch.zeros(3, 5000, 2), torch.zeros(5000, 1, 2, 2)
    )
    assert set(exits.tolist()) == {0, 1}


def test_the_oracle_sends_ood_traffic_out_first_and_the_rest_last():
    logits, shown = torch.zeros(4, 3, 2), images(3)
    assert chosen(ByFlag(), logits, shown, ood=True).tolist() == [0, 0, 0]
    assert chosen(ByFlag(), logits, shown, ood=False).tolist() == [3, 3, 3]


def test_a_rule_says_that_it_does_not_fit_the_exits():
    with pytest.raises(ValueError, match="expected 2 thresholds for this network, got 4"):
        Thresholds().check(3)
    with pytest.raises(ValueError, match="expected 3 weights for this network, got 2"):
        ByHistogram([1, 1]).check(3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Thresholds([math.nan]),
        lambda: CoinThresholds(take=1.5),
        lambda: CoinThresholds(seeding="hashed"),
        lambda: PassingAtRandom([0.0, 0.5]),
        lambda: PassingAtRandom(sharpness=-1),
        lambda: ByHistogram([]),
        lambda: ByHistogram([0.0, 0.0]),
        lambda: ByHistogram([1.0, -0.1]),
    ],
)
def test_parameters_without_a_meaning_are_refused(build):
    with pytest.raises(ValueError, match="expected"):
        build()


def test_descriptions_survive_json():
    import json

    rules = [FinalOnly(), Thresholds(), CoinThresholds(), PassingAtRandom(), ByHistogram([1, 1])]
    for rule in [*rules, ByFlag()]:
        assert json.loads(json.dumps(rule.describe())) == rule.describe()
