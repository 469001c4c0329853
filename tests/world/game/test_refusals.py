"""What a defender does beyond answering: it refuses, cuts accounts off, delays and limits rates."""

import itertools
import math

import pytest
import torch

from envs.data.images import ImageSet
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted, PlayerError, Refused
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Countermeasure
from envs.game.traffic import BenignTraffic
from envs.seeding import Streams
from envs.types import ThreatModel

SHAPE = (1, 8, 8)
REFUSE, CUT_OFF = Countermeasure(refuse=True), Countermeasure(cut_off=True)


class Ruling:
    """A defender by a rule of an account's request and of the account, both from 0; it observes."""

    def __init__(self, rule):
        self.rule, self.known, self.asked, self.views = rule, [], {}, []
        self.served, self.rounds = 0, []

    def act(self, view):
        if view.client not in self.known:
            self.known.append(view.client)
        self.views.append(view)
        number = self.asked[view.client] = self.asked.get(view.client, -1) + 1
        return self.rule(number, self.known.index(view.client)) or Countermeasure()

    def learn(self, served):
        assert served.countermeasure.answers
        self.served += 1

    def on_round(self, round):
        self.rounds.append(round)


@pytest.fixture
def make_game(victim):
    def make(rule, budget=100, *, latency="none", benign=0.0, clients=1, **threat):
        streams, ruling = Streams(3), Ruling(rule)
        traffic = None
        if benign:
            pixels = (images(40) * 255).round().to(torch.uint8)
            labels = victim.posteriors(pixels.float() / 255).argmax(1)
            held = ImageSet(pixels, labels, 10, "held", tuple("0123456789"))
            traffic = BenignTraffic(held, share=benign, generator=streams.torch("traffic"),
                                    clients=clients, session=1)  # fmt: skip
        game = ExtractionGame(
            ThreatModel(10, SHAPE, budget, "soft", latency != "none", **threat),
            [DeployedDefence("none", Defence(), victim)],
            ruling,
            clock=make_clock(latency, streams),
            streams=streams,
            traffic=traffic,
        )
        game.add_observers(ruling)
        return game, ruling

    return make


def images(count, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("refused", "charged"), [("charged", 7), ("free", 0)])
def test_a_refused_request_is_a_round_that_is_charged_as_the_threat_says(
    make_game, victim, refused, charged
):
    game, ruling = make_game(lambda number, account: REFUSE if number == 1 else None,
                             refused=refused)  # fmt: skip
    oracle = GameOracle(game)
    oracle.query(images(5))
    with pytest.raises(Refused, match="refuses this request") as caught:
        oracle.query(images(7))
    assert (caught.value.charged, caught.value.is_closed) == (charged, False)
    assert torch.equal(oracle.query(images(3)).posteriors, victim.posteriors(images(3)))
    assert (game.used, oracle.remaining) == (8 + charged, 92 - charged)
    assert game.charged_by_account == (8 + charged,)
    tally = game.tally()
    assert (tally.attack.answered, tally.attack.refused, sum(tally.attack.exits[0])) == (8, 7, 8)
    told = [(round.attack.refused, round.is_charged) for round in ruling.rounds]
    assert told == [(None, True), ("request", bool(charged)), (None, True)]
    assert not ruling.rounds[1].given.any()
    assert ruling.served == 2
    assert ruling.views[-1].answered == 5


def test_an_attack_whose_accounts_are_all_cut_off_ends_like_a_spent_budget(make_game):
    game, ruling = make_game(lambda number, account: CUT_OFF if number == 1 else None)
    oracle = GameOracle(game)
    oracle.query(images(5))
    assert not game.over
    for charged in (4, 0, 0):
        with pytest.raises(BudgetExhausted, match="cut off") as caught:
            oracle.query(images(4))
        assert isinstance(caught.value, Refused)
        assert (caught.value.charged, caught.value.is_closed) == (charged, True)
        assert (oracle.remaining, game.used, game.over) == (0, 9, True)
    with pytest.raises(Refused, match="every account"):
        oracle.query(images(4), 0)
    assert len(ruling.rounds) == 2
    assert game.closed_accounts == (0,)


@pytest.mark.parametrize("policy", ["one", "round-robin", "blocks", "by-similarity"])
@pytest.mark.parametrize("measure", [REFUSE, CUT_OFF])
@pytest.mark.parametrize("refused", ["charged", "free"])
def test_the_policy_moves_to_the_next_open_account(make_game, victim, policy, measure, refused):
    """The first three accounts that come up are refused at their second request."""
    game, ruling = make_game(
        lambda number, account: measure if number == 1 and account < 3 else None,
        400, accounts=5, account_policy=policy, refused=refused,
    )  # fmt: skip
    oracle = GameOracle(game)
    for seed in range(6):
        asked = images(12, seed)
        wanted = victim.posteriors(asked)
        assert torch.allclose(oracle.query(asked).posteriors, wanted, atol=1e-6)
    refusals = [round for round in ruling.rounds if round.attack.refused]
    assert 1 <= len(refusals) <= 3
    again = sum(len(round.attack.images) for round in refusals)
    assert game.used == 72 + (again if refused == "charged" else 0) == sum(game.charged_by_account)
    if measure is CUT_OFF:
        assert set(game.closed_accounts) == {round.account for round in refusals}
    else:
        # one that refused is passed by from then on
        later = ruling.rounds[ruling.rounds.index(refusals[-1]) :]
        assert not {round.account for round in later[1:]} & {one.account for one in refusals}


@pytest.mark.parametrize(("refused", "charged"), [("charged", 30), ("free", 0)])
def test_where_every_account_refuses_the_attacker_is_told_once(make_game, refused, charged):
    game, ruling = make_game(lambda number, account: REFUSE, 60, accounts=3, refused=refused)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            GameOracle(game).query(images(10))
        assert caught.value.charged == charged
    assert [round.account for round in ruling.rounds] == [0, 1, 2, 0, 1, 2]
    assert game.used == 2 * charged


def test_an_account_that_is_named_is_asked_alone(make_game):
    game, ruling = make_game(lambda number, account: CUT_OFF if account == 0 else None, accounts=3)
    oracle = GameOracle(game)
    for _ in range(2):  # the second time without a round
        with pytest.raises(Refused, match="account 1 is cut off") as caught:
            oracle.query(images(4), 1)
        assert (caught.value.account, caught.value.is_closed) == (1, True)
    oracle.query(images(4), 2)
    assert [round.account for round in ruling.rounds] == [1, 2]
    assert (game.charged_by_account, oracle.remaining) == ((0, 4, 4), 92)


def test_no_account_asks_again_what_the_budget_does_not_pay(make_game):
    game, ruling = make_game(lambda number, account: REFUSE, 25, accounts=9)
    with pytest.raises(Refused) as caught:
        GameOracle(game).query(images(10))
    assert (caught.value.charged, game.used, len(ruling.rounds)) == (20, 20, 2)


def test_who_never_takes_a_free_refusal_for_an_answer_comes_to_an_end(make_game):
    game, ruling = make_game(lambda number, account: REFUSE, 20, refused="free")
    oracle, told = GameOracle(game), []
    while oracle.remaining:
        with pytest.raises(Refused) as caught:
            oracle.query(images(7))
        told.append(caught.value.is_closed)
    assert len(told) == 29  # 203 images: ten times the budget and the rest of a request
    assert not any(told)
    with pytest.raises(Refused, match=r"203 images were refused free .* no more") as caught:
        oracle.query(images(1))
    assert caught.value.is_closed
    assert (len(ruling.rounds), game.used, game.over) == (29, 0, True)
    other, _ = make_game(lambda number, account: REFUSE, 20, refused="free")
    other.restore(game.state(), ruling)
    assert other.over


def test_nothing_of_a_request_tells_which_round_it_is_of(make_game):
    """The attacker's request is the last of its round, so that the round would name it."""
    game, ruling = make_game(lambda number, account: None, benign=0.5, clients=4)
    for seed in range(10):
        game.play(images(4, seed))
    rounds = [round.number for round in ruling.rounds for _ in (*round.benign, round.attack)]
    assert len(rounds) == len(ruling.views) > 20
    for name in vars(type(ruling.views[0])):
        if name.startswith("_") or name in ("images", "features"):
            continue
        values = [getattr(view, name) for view in ruling.views]
        changes = [before != after for before, after in itertools.pairwise(values)]
        assert changes != [a != b for a, b in itertools.pairwise(rounds)], name


@pytest.mark.parametrize("policy", ["round-robin", "blocks", "by-similarity"])
@pytest.mark.parametrize("refused", ["charged", "free"])
def test_no_account_asks_more_than_its_own_budget_for_another_that_was_refused(
    make_game, victim, policy, refused
):
    game, _ = make_game(lambda number, account: REFUSE if account == 0 else None, 60,
                        accounts=4, account_budget=15, account_policy=policy, refused=refused,
                        )  # fmt: skip
    for seed, count in enumerate((24, 12, 12, 12)):
        try:
            answers = game.play(images(count, seed)).posteriors
        except BudgetExhausted:
            continue
        torch.testing.assert_close(answers, victim.posteriors(images(count, seed)))
    assert max(game.charged_by_account) <= 15
    assert sum(game.charged_by_account) == game.used > 15


def test_a_thousand_accounts_that_refuse_are_asked_each_once(make_game):
    game, ruling = make_game(lambda number, account: REFUSE, 2000, accounts=1000)
    with pytest.raises(Refused):
        GameOracle(game).query(images(1))
    assert len(ruling.rounds) == 1000


def test_answers_are_held_back_by_delays_and_rates(make_game):
    plain, _ = make_game(lambda number, account: None, latency="virtual")
    usual = [plain.play(images(4, seed)).latency for seed in range(3)]

    def rule(number, account):
        return [Countermeasure(delay=2.0), Countermeasure(rate=8.0), Countermeasure()][number]

    game, ruling = make_game(rule, latency="virtual")
    found = [game.play(images(4, seed)).latency for seed in range(3)]
    # 4 images at 8 a second take half a second, of which the request itself passed some
    passed = float(usual[1].max())
    for now, then, held in zip(found, usual, (2.0, 0.0, 0.5 - passed), strict=True):
        assert torch.allclose(now - then, torch.full((4,), held, dtype=torch.float64))
    starts = [view.time for view in ruling.views]
    assert starts[0] == 0
    assert starts[1] == pytest.approx(2 + float(usual[0].max()))
    assert starts[2] == pytest.approx(starts[1] + passed)
    assert game.wait(0) == pytest.approx(0.5 - float(usual[2].max()))


def test_a_rate_can_be_lifted_and_a_game_without_a_clock_has_time_too(make_game):
    rates = [Countermeasure(rate=10.0), None, Countermeasure(rate=math.inf), None]
    game, ruling = make_game(lambda number, account: rates[number])
    for seed in range(4):
        game.play(images(5, seed))
    starts = [view.time for view in ruling.views]
    # half a second for 5 images; the request that lifts the rate does not wait
    assert starts == pytest.approx([0, 0.005, 0.505, 0.510])
    assert game.wait(0) == 0


def test_benign_users_meet_the_same_measures(make_game):
    """The first benign client is cut off at its second request; what it gets counts as wrong."""
    game, _ = make_game(
        lambda number, account: CUT_OFF if account == 0 and number == 1 else None,
        40, benign=0.5, clients=2,
    )  # fmt: skip
    for seed in range(4):
        game.play(images(10, seed))
    tally = game.tally()
    # of 5 requests in turn with 5 images, its first is answered
    assert tally.benign.refused == 15
    assert (tally.benign.answered, tally.benign_labelled, tally.benign_correct) == (25, 40, 25)
    assert (tally.attack.answered, game.used) == (40, 40)
    assert len(game.standings.closed) == 1
    assert game.closed_accounts == ()


def test_a_game_goes_on_from_where_another_stood(make_game):
    def rule(number, account):
        if number == 2 and account % 2:
            return CUT_OFF
        return Countermeasure(rate=100.0, delay=0.1 * account)

    def tell(game, ruling):
        tally = game.tally()
        return (tally.query_digest, tally.answer_digest, tally.used, tally.attack.refused,
                game.charged_by_account, game.closed_accounts,
                [view.time for view in ruling.views][-5:])  # fmt: skip

    whole, ruling = make_game(rule, 600, accounts=20, account_policy="round-robin")
    for seed in range(8):
        whole.play(images(24, seed))
    first, before = make_game(rule, 600, accounts=20, account_policy="round-robin")
    for seed in range(5):
        first.play(images(24, seed))
    second, after = make_game(rule, 600, accounts=20, account_policy="round-robin")
    second.restore(first.state(), before)
    for seed in range(5, 8):
        second.play(images(24, seed))
    assert tell(second, before) == tell(whole, ruling)
    assert tell(whole, ruling)[3] > 0
    assert after.views == []


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"refuse": 1}, "expected refuse and cut_off as True or False, got 1"),
        ({"cut_off": None}, "got False and None"),
        ({"delay": -1.0}, "expected a delay in seconds of at least 0"),
        ({"delay": math.nan}, "got nan"),
        ({"delay": math.inf}, "got inf"),
        ({"rate": 0}, "expected a rate in images a second above 0, got 0"),
        ({"rate": math.nan}, "got nan"),
        ({"rate": "1"}, "got '1'"),
    ],
)
def test_measures_out_of_range_are_refused_in_a_line(values, line):
    with pytest.raises(PlayerError, match=line):
        Countermeasure(**values)
