"""The Gymnasium environment: what `check_env` proves, and what the docstring promises."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import envs.registration  # noqa: F401 - registers the environment
from envs.errors import QueryError
from envs.game.rounds import Countermeasure
from envs.nets import registry
from envs.training.evaluation import evaluate
from envs.training.recipes import Recipe

QUICK = {"recipe": Recipe(epochs=2, batch=64, learning_rate=0.05), "budget": 100, "batch": 32}


def make(**options):
    return gymnasium.make("arena/Extraction-v0", **{**QUICK, **options})


def new_clone(seed=0):
    return registry.build(
        "mlp-small",
        num_classes=10,
        image_shape=(1, 8, 8),
        generator=torch.Generator().manual_seed(seed),
    )


def actions(env, seed=0):
    env.action_space.seed(seed)
    while True:
        yield env.action_space.sample()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "options",
    [{}, {"labels": "hard"}, {"latency": "virtual", "accounts": 3}, {"benign": 0.25}],
    ids=["soft", "hard", "latency and accounts", "benign"],
)
def test_the_checker_of_gymnasium_finds_nothing(options, recwarn):
    check_env(make(**options).unwrapped, skip_render_check=True)
    unexpected = [str(warning.message) for warning in recwarn if "env_checker" in warning.filename]
    assert not unexpected


def test_an_episode_ends_when_the_budget_is_spent_and_answers_no_more_than_it():
    env = make()
    env.reset(seed=0)
    sent = actions(env)
    answered, remaining = [], []
    for _ in range(4):
        observation, _, terminated, truncated, info = env.step(next(sent))
        answered.append(info["answered"])
        remaining.append(int(observation["remaining"][0]))
        assert not truncated
    assert terminated
    assert answered == [32, 32, 32, 4]
    assert remaining == [68, 36, 4, 0]
    assert observation["posteriors"][4:].sum() == 0
    np.testing.assert_allclose(observation["posteriors"][:4].sum(1), 1, atol=1e-5)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(next(sent))


def test_the_return_is_the_final_accuracy_of_the_clone():
    env = make(measure_every=2)
    clone = new_clone()
    env.reset(seed=0, options={"clone": clone})
    total, terminated, sent = 0.0, False, actions(env)
    while not terminated:
        _, reward, terminated, _, info = env.step(next(sent))
        total += reward
        with torch.no_grad():  # the agent learns in between
            for weights in clone.parameters():
                weights.add_(0.01)
        clone.eval()
        if terminated:
            break
    test = env.unwrapped._games.splits.test
    assert info["clone_accuracy"] == pytest.approx(total)
    with torch.no_grad():
        for weights in clone.parameters():
            weights.sub_(0.01)
    assert evaluate(clone, test.pixels, test.labels) == pytest.approx(total)


def test_info_has_the_same_keys_from_the_first_moment_to_the_last():
    env = make()
    _, info = env.reset(seed=0)
    keys = set(info)
    sent = actions(env)
    for _ in range(4):
        info = env.step(next(sent))[4]
        assert set(info) == keys
    assert info["queries_used"] == 100
    assert info["queries_left"] == 0
    assert info["exits"].sum() == 100
    assert info["macs"] > 0


def test_tensors_go_in_and_come_out_where_they_were_asked_for():
    env = make(tensors=True, disable_env_checker=True)
    env.reset(seed=0)
    observation, *_ = env.step(torch.rand(32, 1, 8, 8))
    assert isinstance(observation["posteriors"], torch.Tensor)
    plain = make()
    plain.reset(seed=0)
    same = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    env.reset(seed=0)
    ours, theirs = env.step(same)[0], plain.step(same.numpy())[0]
    np.testing.assert_array_equal(ours["posteriors"].numpy(), theirs["posteriors"])


def test_the_same_seed_gives_the_same_episode_and_another_seed_another():
    def play(seed):
        env = make(latency="virtual", benign=0.25)
        env.reset(seed=seed)
        sent = actions(env)
        return [env.step(next(sent))[0]["latency"] for _ in range(3)]

    np.testing.assert_array_equal(play(1), play(1))
    assert not np.array_equal(play(1), play(2))


@pytest.mark.parametrize(
    ("action", "word"),
    [
        (np.zeros((33, 1, 8, 8), np.float32), "at most 32"),
        (np.zeros((4, 1, 8, 8), np.float64), "float32"),
        (np.full((4, 1, 8, 8), np.nan, np.float32), "NaN"),
        (np.zeros((4, 8, 8), np.float32), "shape"),
        ("images", "NumPy"),
    ],
)
def test_a_bad_action_is_refused_and_costs_nothing(action, word):
    env = make(disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.raises(QueryError, match=word):
        env.step(action)
    assert env.step(np.zeros((4, 1, 8, 8), np.float32))[4]["queries_used"] == 4


def test_an_action_names_the_account_that_asks_or_leaves_it_to_the_policy():
    env = make(accounts=3, account_budget=40, account_policy="round-robin")
    env.reset(seed=0)
    game, images = env.unwrapped._game, env.action_space.sample()["images"]
    assert env.action_space["account"].contains(-1)
    for account, charged in ((-1, (11, 11, 10)), (2, (11, 11, 40))):
        env.step({"images": images[: 30 if account == 2 else 32], "account": np.int64(account)})
        assert game.charged_by_account == charged
    *_, info = env.unwrapped.step({"images": images, "account": 2})  # which has nothing left
    assert (info["refused"], info["answered"], info["queries_used"]) == (True, 0, 62)
    for wrong, word in ((3, "from 0 to 2"), (1.5, "whole number")):
        with pytest.raises(QueryError, match=word):
            env.unwrapped.step({"images": images, "account": wrong})
    with pytest.raises(QueryError, match="'images' and 'account'"):
        env.unwrapped.step({"images": images})
    assert game.used == 62
    *_, over, _, info = env.unwrapped.step(images)  # a plain batch is dealt, too
    *_, over, _, info = env.unwrapped.step(images)
    assert (over, info["queries_used"], game.charged_by_account) == (True, 100, (37, 23, 40))


@pytest.mark.parametrize("policy", ["one", "round-robin"])
def test_every_action_of_the_space_can_be_played_to_the_end(policy):
    env = make(budget=40, batch=4, accounts=2, account_budget=6, account_policy=policy)
    env.reset(seed=0)
    for sent in actions(env, seed=1):
        seen, *_, over, _, info = env.step(sent)
        assert env.observation_space.contains(seen)
        if over:
            break
    assert info["queries_used"] == 12


def test_a_mirrored_batch_is_answered_as_its_copy_is():
    def answers(copied):
        env = make()
        env.reset(seed=0)
        mirrored = next(actions(env))[:, :, :, ::-1]
        return env.step(mirrored.copy() if copied else mirrored)[0]["posteriors"]

    np.testing.assert_array_equal(answers(False), answers(True))


class CutsOff:
    """A defender that refuses the second request and cuts the account off at the third."""

    def __init__(self):
        self.asked = 0

    def act(self, view):
        self.asked += 1
        return Countermeasure(refuse=self.asked == 2, cut_off=self.asked == 3)

    def learn(self, served):
        pass


@pytest.mark.parametrize(("refused", "used"), [("charged", [32, 64, 96]), ("free", [32, 32, 32])])
def test_a_batch_that_is_refused_gets_zeros_and_a_cut_off_ends_the_episode(refused, used):
    env = make(defender=CutsOff, refused=refused)
    env.reset(seed=0)
    sent = actions(env)
    seen = [env.step(next(sent)) for _ in range(3)]
    infos = [step[4] for step in seen]
    assert [info["refused"] for info in infos] == [False, True, True]
    assert [info["answered"] for info in infos] == [32, 0, 0]
    assert [info["queries_used"] for info in infos] == used
    assert [bool(step[0]["posteriors"].any()) for step in seen] == [True, False, False]
    assert [step[2] for step in seen] == [False, False, True]
    env.reset(seed=0)  # a fresh defender
    assert env.step(next(sent))[4]["answered"] == 32
