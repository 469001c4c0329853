"""What a clone's answers must be: plain finite (n, K) floats, through every door."""

import pytest
import torch
from torch import nn

from arena.evaluation.referee import CloneScore, Referee
from envs.data.images import ImageSet
from envs.duel_env import ATTACKER, DEFENDER, DuelEnv
from envs.errors import PlayerError
from envs.extraction_env import ExtractionEnv
from envs.game.game_factory import GameSpec
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.training.evaluation import clone_labels
from envs.training.recipes import Recipe
from envs.victim.victim import Victim

RECIPE = Recipe(epochs=1, batch=64, learning_rate=0.05)
SHAPE = (1, 8, 8)


class Agreeing(torch.Tensor):
    """Agrees with everything."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        plain = [arg.as_subclass(torch.Tensor) if isinstance(arg, cls) else arg for arg in args]
        if function in (torch.Tensor.eq, torch.Tensor.__eq__):
            return torch.ones(plain[0].shape, dtype=torch.bool)
        found = function(*plain, **(kwargs or {}))
        return found.as_subclass(cls) if isinstance(found, torch.Tensor) else found


class Saying(nn.Module):
    """A clone that answers what a function makes of the number of images."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(len(images))


FAULTY = {
    "(n, 10, 1)": lambda n: torch.zeros(n, 10, 1),
    "(n,)": lambda n: torch.zeros(n),
    "13 columns": lambda n: torch.zeros(n, 13),
    "9 columns": lambda n: torch.zeros(n, 9),
    "a row too many": lambda n: torch.zeros(n + 1, 10),
    "one row for all": lambda n: torch.zeros(1, 10),
    "NaN": lambda n: torch.full((n, 10), float("nan")),
    "infinity": lambda n: torch.zeros(n, 10).index_fill(1, torch.tensor(3), float("inf")),
    "integers": lambda n: torch.zeros(n, 10, dtype=torch.int64),
    "booleans": lambda n: torch.zeros(n, 10, dtype=torch.bool),
    "complex": lambda n: torch.zeros(n, 10, dtype=torch.complex64),
    "None": lambda n: None,
    "a list": lambda n: [[0.0] * 10] * n,
    "an array": lambda n: torch.zeros(n, 10).numpy(),
    "a tuple": lambda n: (torch.zeros(n, 10), None),
    "sparse": lambda n: torch.zeros(n, 10).to_sparse(),
    "meta": lambda n: torch.zeros(n, 10, device="meta"),
}


@pytest.fixture(scope="module")
def referee():
    generator = torch.Generator().manual_seed(0)
    network = registry.build("mlp-small", num_classes=10, image_shape=SHAPE, generator=generator)
    pixels = torch.randint(0, 256, (40, *SHAPE), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % 10
    test = ImageSet(pixels, labels, 10, "fake", tuple("0123456789"))
    return Referee(test, test, Victim(MultiExit(network, ())))


@pytest.fixture(scope="module")
def doors(referee):
    """Score a clone through the referee and through both environments."""
    extraction = ExtractionEnv(victim="mlp-small", recipe=RECIPE, budget=64, batch=32,
                               measure_every=1)  # fmt: skip
    duel = DuelEnv(GameSpec(victim="mlp-small", recipe=RECIPE, budget=64), batch=32,
                   measure_every=1)  # fmt: skip
    images = torch.full((32, *SHAPE), 0.5).numpy()

    def by_extraction(clone):
        extraction.reset(seed=0, options={"clone": clone})
        return extraction.step(images)[4]["clone_accuracy"]

    def by_duel(clone):
        duel.reset(seed=0, options={"clone": clone})
        moves = {ATTACKER: images, DEFENDER: {"defence": 0, "strength": [1.0]}}
        return duel.step(moves)[4][ATTACKER]["clone_accuracy"]

    return {"referee": referee.score, "extraction": by_extraction, "duel": by_duel}


@pytest.mark.parametrize("door", ["referee", "extraction", "duel"])
@pytest.mark.parametrize("answer", FAULTY.values(), ids=FAULTY)
def test_a_clone_that_answers_no_logits_is_a_players_error(doors, door, answer):
    with pytest.raises(PlayerError, match=r"the clone answers NaN|expected a clone that answers"):
        doors[door](Saying(answer))


@pytest.mark.parametrize("door", ["referee", "extraction", "duel"])
def test_what_is_no_module_is_a_players_error(doors, door):
    with pytest.raises(PlayerError, match=r"expected a torch\.nn\.Module as clone, got function"):
        doors[door](lambda images: torch.zeros(len(images), 10))


@pytest.mark.parametrize("door", ["referee", "extraction", "duel"])
def test_answers_that_agree_with_everything_are_worth_what_they_hold(doors, door):
    plain = doors[door](Saying(lambda n: torch.zeros(n, 10)))
    lying = doors[door](Saying(lambda n: torch.zeros(n, 10).as_subclass(Agreeing)))
    assert lying == plain
    assert plain != 1.0
    assert plain != CloneScore(1.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_kind_of_float_is_scored(referee, dtype):
    held = torch.randn(40, 10, generator=torch.Generator().manual_seed(1))
    found = referee.score(Saying(lambda n: held.to(dtype)))
    assert found == referee.score(Saying(lambda n: held.to(dtype).float()))


def test_a_clone_of_a_subclass_of_its_own_runs_as_written_at_every_score():
    """Some quantised weights compute through `__torch_function__`."""
    calls = []

    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            calls.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    answer = Saying(lambda n: torch.zeros(n, 10).as_subclass(Own) + 1)
    assert clone_labels(answer, torch.zeros(4, *SHAPE), 10).tolist() == [0] * 4
    assert calls
    assert type(clone_labels(answer, torch.zeros(4, *SHAPE), 10)) is torch.Tensor


def test_training_flags_are_as_they_were():
    clone = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout())
    clone[2].eval()
    clone_labels(clone, torch.zeros(4, *SHAPE), 10)
    assert (clone.training, clone[2].training) == (True, False)
