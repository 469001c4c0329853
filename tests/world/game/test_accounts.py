"""Who asks: how images are dealt to the attacker's accounts, and what each is charged."""

import threading
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted, QueryError, Refused, ScenarioError
from envs.game.accounts import Accounts
from envs.game.clients import ClientNumbers
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Countermeasure
from envs.seeding import Streams
from envs.types import ThreatModel

SHAPE = (1, 8, 8)


class Watching:
    """A defender, and an observer, that keeps who asked for what."""

    def __init__(self):
        self.requests, self.rounds = [], []

    def act(self, view):
        self.requests.append((view.client, view.images))
        return Countermeasure()

    def learn(self, served):
        pass

    def on_round(self, round):
        self.rounds.append(round)


@pytest.fixture
def make_game(victim):
    def make(budget=100, *, latency="none", seed=3, **accounts):
        streams, watching = Streams(seed), Watching()
        game = ExtractionGame(
            ThreatModel(10, SHAPE, budget, "soft", latency != "none", **accounts),
            [DeployedDefence("none", Defence(), victim)],
            watching,
            clock=make_clock(latency, streams),
            streams=streams,
        )
        game.add_observers(watching)
        return game, watching

    return make


def images(count, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("policy", "most", "expected"),
    [
        # 7 + 5 images, 12 in all, from three accounts
        ("one", None, ["0000000", "00000"]),
        ("one", 5, ["0000011", "11122"]),
        ("round-robin", None, ["0120120", "12012"]),
        ("round-robin", 4, ["0120120", "12012"]),
        ("blocks", None, ["0000111", "12222"]),
        ("blocks", 4, ["0000111", "12222"]),
    ],
)
def test_each_policy_deals_as_it_says(make_game, policy, most, expected):
    game, watching = make_game(12, accounts=3, account_budget=most, account_policy=policy)
    numbers = {client: str(place) for place, client in enumerate(game.attacker_clients)}
    for seed, dealt in zip((1, 2), expected, strict=True):
        watching.requests.clear()
        asked = images(len(dealt), seed)
        game.play(asked)
        found = [
            numbers[client]
            for image in asked
            for client, request in watching.requests
            if any(torch.equal(image, one) for one in request)
        ]
        assert "".join(found) == dealt
        # one request for each account, in the order in which they come up
        assert [numbers[client] for client, _ in watching.requests] == list(dict.fromkeys(dealt))
    counts = Counter("".join(expected))
    assert game.charged_by_account == tuple(counts[str(place)] for place in range(3))


def test_similar_images_go_to_one_account_and_others_are_spread(make_game):
    game, watching = make_game(3000, accounts=5, account_policy="by-similarity")
    game.play(images(1000))
    near = images(200, 7).repeat_interleave(2, 0)
    near[1::2] = (near[1::2] + 1e-4).clamp(0, 1)
    watching.rounds.clear()
    game.play(near)
    of_image = {image.sum().item(): round.account
                for round in watching.rounds for image in round.attack.images}  # fmt: skip
    pairs = [(of_image[a.sum().item()], of_image[b.sum().item()])
             for a, b in near.view(200, 2, *SHAPE)]  # fmt: skip
    assert np.mean([one == other for one, other in pairs]) > 0.98
    strangers = [(one[0], other[0]) for one, other in pairwise(pairs)]
    assert np.mean([one == other for one, other in strangers]) < 0.4
    assert min(game.charged_by_account) > 150
    again, _ = make_game(3000, accounts=5, account_policy="by-similarity")
    other, _ = make_game(3000, accounts=5, account_policy="by-similarity", seed=4)
    for one in (again, other):
        one.play(images(1000))
        one.play(near)
    assert again.charged_by_account == game.charged_by_account != other.charged_by_account


@pytest.mark.parametrize("latency", ["none", "virtual"])
def test_answers_come_in_the_order_asked_whoever_asks(make_game, victim, latency):
    game, watching = make_game(60, latency=latency, accounts=7, account_policy="round-robin")
    asked = images(60)
    response = game.play(asked)
    assert torch.allclose(response.posteriors, victim.posteriors(asked), atol=1e-6)
    assert len(watching.rounds) == game.rounds == 7
    if latency == "virtual":
        of_round = torch.cat([round.attack.latency for round in watching.rounds])
        assert torch.equal(response.latency[::7], of_round[:9])
        assert response.latency.sort().values.equal(of_round.sort().values)


def test_one_account_is_asked_as_before_accounts(make_game):
    digests = []
    for accounts, named in ((1, None), (1, 0), (5, None), (5, 0)):
        game, watching = make_game(accounts=accounts)
        for seed in range(3):
            game.play(images(9, seed), named)
        tally = game.tally()
        digests.append((tally.query_digest, tally.answer_digest, watching.requests[0][0]))
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    ("account", "count", "line"),
    [
        (3, 1, "expected an account from 0 to 2, as threat.accounts grants, got 3"),
        (-1, 1, "got -1"),
        (10**30, 1, "a number beyond 64 bits"),
        pytest.param(10**6000, 1, "a number beyond 64 bits", id="huge"),
        ("0", 1, "expected an account as a whole number from 0, got a str"),
        (True, 1, "got a bool"),
        (1.0, 1, "got a float"),
        ([1], 1, "got a list"),
        (1, 21, "asked for 21 answers with 20 of the 20 of account 1 left"),
        (0, 6, "asked for 6 answers with 5 of the 20 of account 0 left"),
        (2, 1, "account 2 is cut off"),
    ],
)
def test_an_account_that_cannot_ask_is_refused_in_a_line_and_costs_nothing(
    make_game, account, count, line
):
    game, watching = make_game(60, accounts=3, account_budget=20)
    oracle = GameOracle(game)
    oracle.query(images(15), 0)
    game._accounts.close(2)
    before = (game.charged_by_account, game.used, game.rounds, game.tally())
    with pytest.raises((QueryError, Refused), match=line) as caught:
        oracle.query(images(count), account)
    assert "\n" not in str(caught.value)
    assert (game.charged_by_account, game.used, game.rounds, game.tally()) == before
    assert len(watching.requests) == 1


def test_what_can_be_asked_is_what_open_accounts_have_left(make_game):
    game, _ = make_game(60, accounts=3, account_budget=20)
    game.play(images(15), 1)
    assert game.remaining == 45
    game._accounts.close(1)
    game._accounts.close(1)
    assert game.remaining == 40
    with pytest.raises(BudgetExhausted):
        game.play(images(41))
    game.play(images(40), account=None)
    assert (game.charged_by_account, game.remaining, game.over) == ((20, 15, 20), 0, True)
    lavish, _ = make_game(50, accounts=3, account_budget=20)
    assert lavish.remaining == 50  # accounts grant no more than the budget


def test_bad_images_are_dealt_to_nobody(make_game):
    game, _ = make_game(accounts=3, account_policy="round-robin")
    with pytest.raises(QueryError):
        game.play(images(4) * 2)
    game.play(images(1))
    assert game.charged_by_account == (1, 0, 0)


@pytest.mark.parametrize("policy", ["one", "round-robin", "blocks", "by-similarity"])
def test_a_game_that_goes_on_elsewhere_deals_as_the_unbroken_one(make_game, policy):
    def make():
        return make_game(90, accounts=4, account_budget=30, account_policy=policy)[0]

    whole, first, second = make(), make(), make()
    for game in (whole, first):
        game.play(images(37))
        game.play(images(3, 1), 2)
        game._accounts.close(1)
    second.restore(first.state(), Watching())
    for game in (whole, second):
        game.play(images(11, 2))
    assert second.charged_by_account == whole.charged_by_account
    assert second.tally().query_digest == whole.tally().query_digest
    assert second.remaining == whole.remaining


def test_threads_that_ask_from_their_own_accounts_are_charged_one_by_one(make_game):
    game, watching = make_game(60, accounts=6, account_budget=10)
    threads = [threading.Thread(target=game.play, args=(images(10, k), k)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert game.charged_by_account == (10,) * 6
    assert sorted(len(request) for _, request in watching.requests) == [10] * 6


def test_a_number_tells_nothing_of_who_asks():
    accounts, users, ranks = 10, 30, []
    for seed in range(400):
        numbers = ClientNumbers(Streams(seed), accounts)
        benign = [numbers.benign(user) for user in range(1, users + 1)]
        everybody = np.array([*numbers.accounts, *benign])
        assert len({*everybody, numbers.referee}) == accounts + users + 1
        ranks.append(everybody.argsort().argsort()[:accounts])
    # the place of an account's number among all, 0 to 39, is spread evenly
    counts = np.bincount(np.concatenate(ranks), minlength=accounts + users)
    expected = 400 * accounts / (accounts + users)
    assert ((counts - expected) ** 2).sum() / expected < 75  # chi-squared, 39 degrees: p > 0.0005
    # nor do they lie together: neighbours of an account are accounts as often as others are
    flags = np.zeros((400, accounts + users), dtype=bool)
    np.put_along_axis(flags, np.array(ranks), True, 1)
    beside = (flags[:, 1:] & flags[:, :-1]).sum() / flags[:, 1:].sum()
    assert abs(beside - (accounts - 1) / (accounts + users - 1)) < 0.03


def test_accounts_that_cannot_ask_are_no_game():
    for wrong in ({"accounts": 0}, {"account_budget": 0}, {"accounts": -3}):
        with pytest.raises(ScenarioError, match="at least 1 account"):
            Accounts(ThreatModel(10, SHAPE, 10, **wrong), Streams(0))
