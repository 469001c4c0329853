"""The duel: what PettingZoo's own test proves, and what the docstring promises."""

import numpy as np
import pytest
import torch

pettingzoo_test = pytest.importorskip("pettingzoo.test")

from envs.defences.base import Defence  # noqa: E402
from envs.duel_env import ATTACKER, DEFENDER, DuelEnv  # noqa: E402
from envs.errors import PlayerError, QueryError  # noqa: E402
from envs.game.game_factory import GameSpec  # noqa: E402
from envs.nets import registry  # noqa: E402
from envs.training.recipes import Recipe  # noqa: E402

RECIPE = Recipe(epochs=2, batch=64, learning_rate=0.05)


class Blur(Defence):
    """Answers by a mixture with the uniform posterior; at full strength by nothing else."""

    epsilon = 2.0

    def perturb_posteriors(self, posteriors, serving):
        uniform = torch.full_like(posteriors, 1 / posteriors.shape[1])
        return torch.lerp(posteriors, uniform, serving.strength)


def make(benign=0.2, budget=100, **options):
    spec = GameSpec(victim="mlp-small", recipe=RECIPE, budget=budget, benign=benign)
    return DuelEnv(spec, defences=[Defence(), Blur()], batch=32, **options)


def moves(seed=0, defence=0, strength=1.0):
    images = np.random.default_rng(seed).random((32, 1, 8, 8), dtype=np.float32)
    return {
        ATTACKER: images,
        DEFENDER: {"defence": defence, "strength": [strength]},
    }


@pytest.mark.filterwarnings("default")
def test_the_test_of_pettingzoo_passes():
    pettingzoo_test.parallel_api_test(make(), num_cycles=20)


def test_the_defenders_move_decides_how_this_round_is_answered():
    env = make()
    env.reset(seed=0)
    plain = env.step(moves())[0][ATTACKER]["posteriors"]
    blurred = env.step(moves(defence=1))[0][ATTACKER]["posteriors"]
    halfway = env.step(moves(defence=1, strength=0.5))[0][ATTACKER]["posteriors"]
    assert plain.max() > 0.15
    np.testing.assert_allclose(blurred, 0.1, atol=1e-6)
    np.testing.assert_allclose(halfway, (plain + blurred) / 2, atol=1e-5)


def test_an_episode_ends_for_both_when_the_budget_is_spent():
    env = make()
    env.reset(seed=0)
    for round_ in range(4):
        _, _, ended, truncated, infos = env.step(moves(round_))
        assert not any(truncated.values())
    assert ended == {ATTACKER: True, DEFENDER: True}
    assert env.agents == []
    assert infos[ATTACKER]["queries_left"] == 0


def test_rewards_are_opposite_but_for_what_the_defender_pays():
    clone = registry.build("mlp-small", num_classes=10, image_shape=(1, 8, 8),
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
    free, priced = (
        make(measure_every=1),
        make(measure_every=1, utility_price=2.0, compute_price=3.0),
    )
    for env in (free, priced):
        env.reset(seed=0, options={"clone": clone})
    rewards, costly = free.step(moves())[1], priced.step(moves())[1]
    assert rewards[ATTACKER] == -rewards[DEFENDER] != 0
    assert costly[ATTACKER] == rewards[ATTACKER]
    # 8 benign users of 40; the bare victim costs the whole network and errs on some of them
    wrong = (rewards[DEFENDER] - costly[DEFENDER] - 3.0) / 2.0
    assert 8 * wrong == pytest.approx(round(8 * wrong), abs=1e-6)


def test_the_server_sees_all_requests_and_their_order_tells_nothing():
    env = make()
    env.reset(seed=0)
    sent = moves()
    seen = env.step(sent)[0][DEFENDER]
    asked = (seen["exits"] >= 0).sum()
    assert asked == 32 + 8
    rows = {row.tobytes() for row in seen["images"][:asked]}
    assert {row.tobytes() for row in sent[ATTACKER]} <= rows
    ours = [
        row.tobytes() in {r.tobytes() for r in sent[ATTACKER]} for row in seen["images"][:asked]
    ]
    assert ours != sorted(ours)
    assert ours != sorted(ours, reverse=True)
    assert len(set(seen["clients"][:asked])) == 2
    assert (seen["images"][asked:] == 0).all()


def test_the_same_seed_gives_the_same_duel_and_another_seed_another():
    def play(seed):
        env = make()
        env.reset(seed=seed)
        return [env.step(moves(i))[0][DEFENDER] for i in range(2)]

    for one, same, other in zip(play(1), play(1), play(2), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], same[name])
        assert not np.array_equal(one["images"], other["images"])


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({ATTACKER: np.zeros((33, 1, 8, 8), np.float32)}, QueryError, "at most 32"),
        ({ATTACKER: np.full((4, 1, 8, 8), np.nan, np.float32)}, QueryError, "NaN"),
        (
            {DEFENDER: {"defence": 2, "strength": [0.0]}},
            PlayerError,
            "defence from 0 to 1",
        ),
        ({DEFENDER: {"defence": 0, "strength": [1.5]}}, PlayerError, "strength"),
    ],
)
def test_a_move_that_is_none_is_refused_and_costs_nothing(changes, error, word):
    env = make()
    env.reset(seed=0)
    with pytest.raises(error, match=word):
        env.step({**moves(), **changes})
    assert env.step(moves())[4][ATTACKER]["queries_used"] == 32


def test_a_defender_may_refuse_clients_or_cut_them_off():
    env = make(benign=0.5, refusals=True)
    env.reset(seed=0)
    count = len(env.action_space(DEFENDER)["refuse"].sample())

    def step(**named):
        sent = moves()
        for measure in ("refuse", "cut_off"):
            sent[DEFENDER][measure] = np.isin(np.arange(count), named.get(measure, []))
        seen, _, ended, _, infos = env.step(sent)
        clients = set(seen[DEFENDER]["clients"].tolist()) - {-1}
        answered = bool(seen[ATTACKER]["posteriors"].any())
        return clients, answered, infos[ATTACKER]["queries_used"], ended[ATTACKER]

    both, answered, used, _ = step()
    assert (len(both), answered, used) == (2, True, 32)
    for client in both:  # neither is told from the other but by what follows
        clients, answered, used, over = step(refuse=[client])
        assert clients == both - {client}
        attacker = client if not answered else (both - {client}).pop()
    assert (used, over) == (96, False)
    clients, answered, used, over = step(cut_off=[attacker])
    assert (clients, answered, used, over) == (both - {attacker}, False, 100, True)
    assert env.agents == []


def test_the_window_holds_the_benign_requests_beside_every_account_that_is_asked():
    spec = GameSpec(victim="mlp-small", recipe=RECIPE, budget=400, benign=0.5, accounts=4,
                    account_policy="one", refused="free")  # fmt: skip
    env = DuelEnv(spec, batch=8, refusals=True)
    env.reset(seed=0)
    images, clients = moves()[ATTACKER][:8], set()
    count = len(env.action_space(DEFENDER)["refuse"].sample())

    def step(account, refused=()):
        none = np.zeros(count, np.int8)
        seen, *_ = env.step({
            ATTACKER: {"images": images, "account": account},
            DEFENDER: {"defence": 0, "strength": np.ones(1, np.float32), "cut_off": none,
                       "refuse": np.isin(np.arange(count), list(refused)).astype(np.int8)},
        })  # fmt: skip
        assert env.observation_space(DEFENDER).contains(seen[DEFENDER])
        return set(seen[DEFENDER]["clients"].tolist()) - {-1}

    for account in range(4):
        clients |= step(account)
    for kept in clients:  # of all accounts but one
        step(-1, clients - {kept})


@pytest.mark.filterwarnings("default")
def test_the_test_of_pettingzoo_passes_with_refusals_too():
    pettingzoo_test.parallel_api_test(make(refusals=True), num_cycles=20)
