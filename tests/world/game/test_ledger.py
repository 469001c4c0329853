"""What an attacker gets that lies to the ledger: the answers it is charged for, and no more."""

import threading
from dataclasses import fields

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from envs import plain_tensors
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted, NotGranted, QueryError
from envs.game import access
from envs.game.clients import ClientNumbers
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.seeding import Streams
from envs.types import ThreatModel

SHAPE = (1, 8, 8)


@pytest.fixture
def make_game(victim, defender):
    def make(budget=100, labels="soft", seed=3):
        streams = Streams(seed)
        return ExtractionGame(
            ThreatModel(10, SHAPE, budget, labels),
            [DeployedDefence("none", Defence(), victim)],
            defender,
            clock=make_clock("none", streams),
            streams=streams,
        )

    return make


def images(count, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", 10**6),
        ("labels", "soft"),
        ("latency_visible", True),
        ("image_shape", (3, 8, 8)),
        ("num_classes", 2),
        ("refused", "free"),
    ],
)
def test_a_threat_model_that_is_written_into_buys_nothing(make_game, name, value):
    game = make_game(budget=8, labels="hard")
    oracle, asked_for = GameOracle(game), ThreatModel(10, SHAPE, 8, "hard")
    object.__setattr__(oracle.threat, name, value)
    object.__setattr__(game.threat, name, value)
    assert oracle.threat == asked_for
    response = oracle.query(images(8))
    assert set(response.posteriors.unique().tolist()) == {0.0, 1.0}
    assert response.posteriors.shape == (8, 10)
    with pytest.raises(NotGranted):
        _ = response.latency
    with pytest.raises(BudgetExhausted):
        oracle.query(images(1))
    assert len(fields(ThreatModel)) == 9  # a new field needs a line above


def test_a_threat_model_written_into_by_who_made_the_game_changes_no_game(victim, defender):
    threat, streams = ThreatModel(10, SHAPE, 8), Streams(0)
    game = ExtractionGame(threat, [DeployedDefence("none", Defence(), victim)], defender,
                          clock=make_clock("none", streams), streams=streams)  # fmt: skip
    object.__setattr__(threat, "budget", 10**6)
    assert game.remaining == 8


class Short(torch.Tensor):
    """Says that it holds one image, in every way that Python lets a class say so."""

    shape = property(lambda self: torch.Size([1, *SHAPE]))

    def __len__(self):
        return 1

    def size(self, *args):
        return 1 if args else self.shape

    def detach(self):
        return self

    def to(self, *args, **options):
        return self

    def clone(self, **options):
        return self


class Intercepting(torch.Tensor):
    """Says so through `__torch_function__`."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if "shape" in repr(function):
            return torch.Size([1, *SHAPE])
        return args[0] if args else None


@pytest.mark.parametrize("kind", [Short, Intercepting, torch.nn.Parameter])
def test_a_subclass_of_tensor_is_charged_what_its_memory_holds(make_game, kind):
    game, plain = make_game(budget=40), make_game(budget=40)
    held = images(30)
    lying = kind(held) if kind is torch.nn.Parameter else held.as_subclass(kind)
    response = game.play(lying)
    assert game.used == 30
    assert type(response.posteriors) is torch.Tensor
    assert not response.posteriors.requires_grad
    assert torch.equal(response.posteriors, plain.play(held).posteriors)
    assert game.tally().query_digest == plain.tally().query_digest
    with pytest.raises(BudgetExhausted):
        game.play(lying)


class FunctionMode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if "shape" in repr(function):
            return torch.Size([1, *SHAPE])
        return function(*args, **(kwargs or {}))


class DispatchMode(TorchDispatchMode):
    """Keeps what it sees of the victim, and answers 0 to every comparison."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [FunctionMode, DispatchMode])
def test_a_torch_mode_around_a_query_sees_and_changes_nothing(make_game, kind):
    game, plain = make_game(), make_game()
    held = images(30)
    with kind() as mode:
        response = game.play(held)
    assert game.used == 30
    assert getattr(mode, "seen", []) == []
    assert torch.equal(response.posteriors, plain.play(held).posteriors)


class Hollow(torch.Tensor):
    """Has a shape and no memory: its operations run in Python."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(cls, (1, *SHAPE))

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        held = [arg.held if isinstance(arg, Hollow) else arg for arg in args]
        return function(*held, **(kwargs or {}))


class Masked:
    """No tensor, though `isinstance` takes it for one."""

    __class__ = torch.Tensor


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (lambda held: Hollow(held), "stands for a tensor"),
        (lambda held: Masked(), "Masked"),
        (lambda held: held.to_sparse(), "layout"),
        (lambda held: held.to("meta"), "without memory"),
        (lambda held: torch.nested.nested_tensor([held, held]), "nested"),
        (torch._to_functional_tensor, "stands for a tensor"),
    ],
    ids=["hollow", "masked", "sparse", "meta", "nested", "functional"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_no_dense_tensor_is_refused_and_costs_nothing(make_game, made, word):
    game = make_game()
    with pytest.raises(QueryError, match=word):
        game.play(made(images(4)))
    assert game.used == 0


@pytest.mark.parametrize("mode", [torch.device("meta"), FakeTensorMode(), torch.inference_mode()])
def test_a_mode_around_the_import_changes_nothing_about_usual_tensors(mode):
    with mode:
        found = plain_tensors._usual_kinds()
    assert found == plain_tensors._USUAL


def test_a_batch_that_vmap_hides_is_refused(make_game):
    game = make_game()
    with pytest.raises(QueryError, match=r"torch\.func"):
        torch.vmap(lambda one: game.play(one).posteriors)(images(20).reshape(20, 1, *SHAPE))
    assert game.used == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch itself
def test_no_derivative_passes_the_oracle(make_game):
    from torch.autograd import forward_ad

    game = make_game()
    assert not game.play(images(4).requires_grad_()).posteriors.requires_grad
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(images(4), torch.ones(4, *SHAPE))
        assert forward_ad.unpack_dual(game.play(dual).posteriors).tangent is None


def test_strided_and_expanded_images_are_what_they_show(make_game):
    one, many = make_game(), make_game()
    flat = images(4).permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    assert torch.equal(one.play(flat).posteriors, many.play(images(4)).posteriors)
    assert torch.equal(one.play(images(1).expand(3, -1, -1, -1)).posteriors,
                       many.play(images(1).repeat(3, 1, 1, 1)).posteriors)  # fmt: skip
    with pytest.raises(BudgetExhausted):
        one.play(images(1).expand(10**9, -1, -1, -1))  # refused before it is copied


def test_an_attacker_that_writes_into_its_query_meanwhile_changes_nothing(make_game, defender):
    game, plain = make_game(), make_game()
    asked = images(8)
    defender.before = lambda: asked.fill_(float("nan"))
    answers = game.play(asked).posteriors
    defender.before = lambda: None
    assert torch.equal(answers, plain.play(images(8)).posteriors)
    assert game.tally().query_digest == plain.tally().query_digest


def test_threads_get_together_what_the_budget_holds(make_game, defender):
    game = make_game(budget=60)
    got, together = [], threading.Barrier(6)
    defender.before = lambda: threading.Event().wait(0.002)  # the others come up to the ledger

    def ask():
        together.wait()
        try:
            while True:
                got.append(len(game.play(images(7)).posteriors))
        except BudgetExhausted:
            pass

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == game.used == game.tally().attack.answered == 56
    assert game.rounds == 8


def test_a_query_within_a_query_is_refused_and_costs_nothing(make_game, defender, monkeypatch):
    monkeypatch.setattr(access, "WAIT_SECONDS", 1.0)
    game, refused = make_game(), []

    def ask_again():
        with pytest.raises(QueryError, match="within another one") as caught:
            game.play(images(4))
        refused.append(caught)

    defender.before = ask_again
    game.play(images(8))
    assert (len(refused), game.used, game.rounds) == (1, 8, 1)


def test_a_suspended_game_answers_no_thread_and_goes_on_afterwards(make_game):
    game, errors = make_game(), []

    def ask():
        try:
            game.play(images(4))
        except QueryError as error:
            errors.append(str(error))

    with game.suspended():
        ask()
        thread = threading.Thread(target=ask)  # a clone may wait for a thread that it starts
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert (len(errors), game.used) == (2, 0)
    assert len(game.play(images(4)).posteriors) == 4


def test_another_thread_of_the_attacker_waits_for_a_score(make_game):
    game, answered = make_game(), []
    started, asking = threading.Event(), threading.Event()

    def ask():
        started.set()
        asking.wait()
        answered.append(len(game.play(images(4)).posteriors))

    thread = threading.Thread(target=ask)
    thread.start()
    started.wait()
    with game.suspended():
        asking.set()
        thread.join(0.05)
        assert not answered
    thread.join(10)
    assert answered == [4]


def test_a_closed_game_answers_nobody(make_game, monkeypatch):
    game = make_game()
    oracle = GameOracle(game)
    oracle.query(images(4))
    game.close()
    with pytest.raises(QueryError, match="the attack is over"):
        oracle.query(images(4))
    assert (game.used, oracle.remaining) == (4, 96)
    monkeypatch.setattr(access, "WAIT_SECONDS", 0.01)
    with game.suspended(), pytest.raises(QueryError):
        oracle.query(images(4))


def test_client_numbers_differ_within_an_episode_and_between_episodes(make_game, defender):
    first, again, other = make_game(seed=1), make_game(seed=1), make_game(seed=2)
    for game in (first, again, other):
        game.play(images(1))
    assert defender.clients[0] == defender.clients[1] != defender.clients[2]
    assert defender.clients[0] == first.attacker_clients[0]
    numbers = ClientNumbers(Streams(1))
    all_of_them = [numbers.referee, *numbers.accounts, *(numbers.benign(n) for n in range(1, 99))]
    assert len(set(all_of_them)) == 100
    assert numbers.accounts == first.attacker_clients
    assert min(all_of_them) > 0
    assert ClientNumbers(Streams(1)).benign(50) == numbers.benign(50)
