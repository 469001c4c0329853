"""What holds for every defence that perturbs answers."""

import copy

import pytest
import torch

from envs.defences.adaptive_misinformation import AdaptiveMisinformation
from envs.defences.base import Defence, DeployedDefence
from envs.defences.gradient_redirection import GradientRedirection
from envs.defences.meco import MeCo
from envs.defences.modelguard import ModelGuardS, ModelGuardW
from envs.defences.prediction_poisoning import PredictionPoisoning
from envs.defences.queen import Queen
from envs.defences.randp import RandP
from envs.defences.reverse_sigmoid import ReverseSigmoid
from envs.defences.same import Same
from envs.defences.stack import Stack
from envs.defences.timing import Timing
from envs.defences.truncation import Truncation
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Countermeasure
from envs.seeding import Streams
from envs.types import ThreatModel

BRIEF = {"surrogate_epochs": 1, "schedule_epochs": 2}
SHORT = {"epochs": 2, "classifier_epochs": 1}
FEW = {"shadows": 2, "asked": 1, "map_epochs": 30}

# name: (class, parameters); all perturb posteriors and take preserve_top1
POSTERIOR = {
    "randp": (RandP, {"epsilon": 1.0}),
    "randp-hash": (RandP, {"epsilon": 0.3, "randomness": "hash"}),
    "randp-noise": (RandP, {"variant": "noise", "radius": 4.0}),
    "randp-normal-l1": (RandP, {"variant": "noise", "noise": "normal", "norm": 1, "radius": 9.0}),
    "randp-noise-hash": (RandP, {"variant": "noise", "radius": 4.0, "randomness": "hash"}),
    "p-poison": (PredictionPoisoning, {"epsilon": 1.0}),
    "p-poison-small": (PredictionPoisoning, {"epsilon": 0.5, "surrogate": "small"}),
    "p-poison-trained": (PredictionPoisoning, {"surrogate": "trained", **BRIEF}),
    "p-poison-keeping": (PredictionPoisoning, {"epsilon": 1.0, "oracle": "argmax-preserving"}),
    "p-poison-argmin": (PredictionPoisoning, {"epsilon": 0.5, "objmax": False}),
    "p-poison-random": (PredictionPoisoning, {"oracle": "random", "randomness": "hash"}),
    "grad": (GradientRedirection, {"epsilon": 1.0, **BRIEF}),
    "grad-random": (GradientRedirection, {"surrogate": "untrained", "direction": "random"}),
    "reverse-sigmoid": (ReverseSigmoid, {"beta": 0.5, "gamma": 0.2}),
    "misinformation": (AdaptiveMisinformation, {"epochs": 1, "gate": 0.95}),
    "misinformation-own": (AdaptiveMisinformation, {"detector": "victim", "epochs": 1}),
    "top-2": (Truncation, {"top": 2}),
    "one-decimal": (Truncation, {"decimals": 1}),
    "top-3-even": (Truncation, {"top": 3, "decimals": 2, "rest": "even"}),
    "modelguard-w": (ModelGuardW, {"epsilon": 1.0}),
    "modelguard-s": (ModelGuardS, {"epsilon": 1.0}),
    "modelguard-s-fixed": (ModelGuardS, {"epsilon": 0.2, "grow": False}),
    "queen": (Queen, {"limit": 0.0, "reach": 9.0, **FEW}),
    "same": (Same, {"suspected": 0.2, **SHORT}),
    "same-fresh": (Same, {"suspected": 0.2, "randomness": "fresh", **SHORT}),
    "same-misinforming": (Same, {"suspected": 0.2, "response": "misinformation", **SHORT}),
    "queen-fresh": (Queen, {"limit": 0.0, "reach": 9.0, "randomness": "fresh", **FEW}),
}
FRESH = {"randp", "randp-noise", "randp-normal-l1", "queen-fresh", "same-fresh"}


@pytest.fixture(params=list(POSTERIOR))
def name(request):
    return request.param


HARDENED = {}


def harden(world, name):
    kind, params = POSTERIOR[name]
    defence = kind(**params)
    return defence, defence.harden(world.victim(), world.kit())


def build(world, name, *, preserve_top1="on"):
    """Return a defence fresh from hardening, which is done once for all tests."""
    if name not in HARDENED:
        HARDENED[name] = harden(world, name)
    defence, victim = copy.deepcopy(HARDENED[name][0]), HARDENED[name][1]
    defence.preserve_top1 = preserve_top1
    return defence, victim


@pytest.mark.parametrize("preserve", ["on", "off", "label_only"])
def test_answers_are_on_the_simplex_and_within_the_promise(digits_world, name, preserve):
    defence, victim = build(digits_world, name, preserve_top1=preserve)
    clean = digits_world.clean().double()
    for strength in (0.3, 1.0):
        answer = digits_world.serve(defence, victim, strength=strength)
        served = answer.posteriors.double()
        assert answer.posteriors.dtype == torch.float32
        assert not answer.fault
        assert (served >= 0).all()
        torch.testing.assert_close(served.sum(1), torch.ones(64).double(), atol=1e-6, rtol=0)
        assert ((served - clean).abs().sum(1) <= defence.epsilon + 1e-6).all()


def test_a_defence_does_something(digits_world, name):
    defence, victim = build(digits_world, name, preserve_top1="off")
    served = digits_world.serve(defence, victim).posteriors
    assert (served - digits_world.clean()).abs().sum(1).mean() > 1e-3


@pytest.mark.parametrize("preserve", ["on", "off"])
def test_strength_0_is_the_victim_to_the_bit(digits_world, name, preserve):
    defence, victim = build(digits_world, name, preserve_top1=preserve)
    served = digits_world.serve(defence, victim, strength=0.0).posteriors
    assert torch.equal(served, digits_world.clean())


def test_preserve_top1_on_keeps_every_label(digits_world, name):
    defence, victim = build(digits_world, name, preserve_top1="on")
    clean = digits_world.clean().argmax(1)
    for seed in range(3):
        served = digits_world.serve(defence, victim, seed=seed).posteriors
        assert torch.equal(served.argmax(1), clean)


@pytest.mark.parametrize("preserve", ["on", "label_only"])
def test_a_hard_label_attacker_sees_the_undefended_victim(digits_world, name, preserve):
    """Same queries, same labels: whatever is trained on them is equal to the bit."""
    defence, victim = build(digits_world, name, preserve_top1=preserve)

    def play(defence, victim):
        threat = ThreatModel(10, (1, 8, 8), 64, "hard", False)
        streams = Streams(3)
        clock = make_clock("none", streams)
        deployed_defence = DeployedDefence("d", defence, victim)
        game = ExtractionGame(
            threat, [deployed_defence], AtFullStrength(), clock=clock, streams=streams
        )
        return GameOracle(game).query(digits_world.images).posteriors

    assert torch.equal(play(defence, victim), play(Defence(), digits_world.victim()))


class AtFullStrength:
    def act(self, view):
        return Countermeasure()

    def learn(self, served):
        pass


def test_how_images_are_split_into_requests_does_not_matter_without_fresh_chance(
    digits_world, name
):
    if name in FRESH:
        assert not torch.equal(*(answers(digits_world, name, seed) for seed in (0, 1)))
        return
    whole = answers(digits_world, name, 0)
    defence, victim = build(digits_world, name)
    parts = [
        digits_world.serve(defence, victim, images, seed=1).posteriors
        for images in digits_world.images.split([1, 7, 30, 26])
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=2e-5, rtol=0)


def answers(world, name, seed):
    defence, victim = build(world, name)
    return world.serve(defence, victim, seed=seed).posteriors


def test_one_stream_gives_one_answer(digits_world, name):
    assert torch.equal(*(answers(digits_world, name, 4) for _ in range(2)))


@pytest.mark.parametrize("name", ["randp-hash", "p-poison", "grad-random", "modelguard-s"])
def test_hardening_repeats(digits_world, name):
    first, second = (digits_world.serve(*harden(digits_world, name)).posteriors for _ in range(2))
    assert torch.equal(first, second)


def test_the_victim_itself_is_untouched(digits_world, name):
    defence, victim = build(digits_world, name)
    digits_world.serve(defence, victim)
    weights = digits_world.victim().network.state_dict()
    for key, value in victim.network.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert not victim.network.training


@pytest.mark.parametrize("kind", [Timing, MeCo])
def test_what_changes_no_posteriors_is_off_at_strength_0(digits_world, kind):
    defence = kind(**({"retrain": "off", "scale": 0.3} if kind is MeCo else {"seconds": 1.0}))
    victim = defence.harden(digits_world.victim(), digits_world.kit())
    off = digits_world.serve(defence, victim, strength=0.0, latency="virtual")
    bare = digits_world.serve(Defence(), digits_world.victim(), latency="virtual")
    assert torch.equal(off.posteriors, bare.posteriors)
    assert torch.equal(off.latency, bare.latency)


def test_a_stack_is_its_layers_in_order(digits_world):
    rounding = Truncation(decimals=1, preserve_top1="on")
    poison = PredictionPoisoning(objmax=False, epsilon=0.5, preserve_top1="on")
    served = {}
    for order in ((rounding, poison), (poison, rounding)):
        stack = Stack(layers=order)
        victim = stack.harden(digits_world.victim(), digits_world.kit())
        answer = digits_world.serve(stack, victim)
        assert not answer.fault
        served[order[-1]] = answer.posteriors
    # rows of tenths that were normalised last: whole numbers over their sum, 10 or near it
    sums = torch.arange(7, 14).view(-1, 1, 1)
    units = served[rounding] * sums
    whole = ((units - units.round()).abs() < 1e-4).all(2).any(0)
    assert whole.all()
    units = served[poison] * sums
    assert not ((units - units.round()).abs() < 1e-4).all(2).any(0).all()
    assert not torch.equal(served[rounding], served[poison])
    assert torch.equal(served[rounding].argmax(1), digits_world.clean().argmax(1))


def test_a_stack_promises_the_sum_of_its_layers_and_costs_it(digits_world):
    stack = Stack(
        layers=[RandP(epsilon=0.3), PredictionPoisoning(epsilon=0.4), Timing(seconds=1.0)]
    )
    victim = stack.harden(digits_world.victim(), digits_world.kit())
    assert stack.epsilon == pytest.approx(0.7)
    assert stack.overhead_macs == victim.profile.macs[-1]
    answer = digits_world.serve(stack, victim, latency="virtual")
    assert not answer.fault
    assert (answer.latency == 1.0).all()
    with pytest.raises(ValueError, match="at least one layer"):
        Stack(layers=[])
