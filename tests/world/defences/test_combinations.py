"""Any defence with any other, in either order, and with any network of a victim."""

import itertools
from dataclasses import replace

import pytest
import torch

from envs.data.images import Splits
from envs.data.sources import load
from envs.defences.adaptive_misinformation import AdaptiveMisinformation
from envs.defences.dnf import DNF
from envs.defences.dnf_plus import DNFPlus
from envs.defences.gradient_redirection import GradientRedirection
from envs.defences.harden_kit import HardenKit
from envs.defences.meco import MeCo
from envs.defences.misleader import Misleader
from envs.defences.modelguard import ModelGuardS, ModelGuardW
from envs.defences.prediction_poisoning import PredictionPoisoning
from envs.defences.queen import Queen
from envs.defences.randp import RandP
from envs.defences.reverse_sigmoid import ReverseSigmoid
from envs.defences.same import Same
from envs.defences.stack import Stack
from envs.defences.timing import Timing
from envs.defences.truncation import Truncation
from envs.errors import ScenarioError
from envs.game.clocks import make_clock
from envs.latency.model import LatencyModel
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.victim.victim import Victim

MAKE = {
    "randp": lambda: RandP(epsilon=0.4),
    "p-poison": lambda: PredictionPoisoning(epsilon=0.4, surrogate="small"),
    "grad": lambda: GradientRedirection(epsilon=0.4, surrogate="untrained"),
    "meco": lambda: MeCo(retrain="off", scale=0.1),
    "reverse-sigmoid": lambda: ReverseSigmoid(beta=0.1),
    "misinformation": lambda: AdaptiveMisinformation(detector="victim", epochs=1),
    "truncation": lambda: Truncation(decimals=2),
    "modelguard-w": lambda: ModelGuardW(epsilon=0.4),
    "modelguard-s": lambda: ModelGuardS(epsilon=0.4),
    "misleader": lambda: Misleader(
        members=["mlp-small"], weights=[0.05], temperatures=[4.0], shares=[0.9], epochs=1
    ),
    "queen": lambda: Queen(shadows=1, asked=1, map_epochs=2, limit=0.0),
    "same": lambda: Same(epochs=1, classifier_epochs=1, suspected=0.5),
    "timing": lambda: Timing(policy="constant", seconds=1.0),
    "dnf": lambda: DNF("plain", thresholds="published", epochs=1),
    "dnf_plus": lambda: DNFPlus(steps=5, ood="uniform", constant_time=False),
}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARENA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def digits() -> Splits:
    full = load("digits")
    few = {name: full.parts[name].select(slice(0, 64)) for name in ("train", "test")}
    return replace(full, **few, fingerprint="few-digits")


def victim(network, shape, mean=(0.5,), std=(0.3,)):
    backbone = registry.build(
        network,
        num_classes=10,
        image_shape=shape,
        generator=torch.Generator().manual_seed(0),
        mean=mean,
        std=std,
    )
    return Victim(MultiExit(backbone, ()))


def answered(defence, bare, data):
    kit = HardenKit(data, Streams(0), torch.device("cpu"))
    hardened = defence.harden(bare, kit)
    with torch.no_grad():
        return defence.answer(
            hardened,
            data.test.images(slice(0, 24)),
            clock=make_clock("virtual", Streams(0)),
            generator=torch.Generator().manual_seed(0),
        )


FORTRESSES = ("dnf", "dnf_plus")
ONE_NETWORK = {"misleader", *FORTRESSES}
"""An ensemble has no places for exits, exits are no ensemble's, and there is one set of them."""
PAIRS = [pair for pair in itertools.permutations(MAKE, 2) if not set(pair) <= ONE_NETWORK]


@pytest.mark.parametrize(
    "layers",
    [
        FORTRESSES,
        FORTRESSES[::-1],
        ("dnf", "truncation", "dnf"),
        ("timing", "dnf_plus", "dnf_plus"),
    ],
)
def test_a_stack_has_one_fortress_at_most(layers):
    with pytest.raises(ValueError, match="one layer at most that puts exit heads on the victim"):
        Stack(layers=[MAKE[name]() for name in layers])
    first, *others = layers
    with pytest.raises(ValueError, match="leave out all but one"):
        Stack(layers=[MAKE[first](), Stack(layers=[MAKE[name]() for name in others])])


@pytest.mark.parametrize("policy", ["constant", "next-exit", "bucketed", "seeded-delay"])
def test_padding_knows_the_exits_that_serve_wherever_it_stands(digits, policy):
    def padding(make):
        timing = Timing(policy=policy)
        kit = HardenKit(digits, Streams(0), torch.device("cpu"), expected=LatencyModel().expected)
        make(timing, MAKE["dnf"]()).harden(victim("conv-small", (1, 8, 8)), kit)
        return {**vars(timing._padding), "key": None}  # which follows its place

    behind = padding(lambda timing, dnf: Stack(layers=[dnf, timing]))
    assert behind == padding(lambda timing, dnf: Stack(layers=[timing, dnf]))
    assert behind == padding(lambda timing, dnf: Stack(layers=[Stack(layers=[timing]), dnf]))
    if policy != "constant":  # the whole network takes as long with exits
        assert behind != padding(lambda timing, dnf: Stack(layers=[timing]))


@pytest.mark.parametrize(
    "pair",
    [pair for one in FORTRESSES for pair in itertools.permutations(("misleader", one))],
)
def test_an_ensemble_and_a_fortress_refuse_each_other_in_one_line(digits, pair):
    stack = Stack(layers=[MAKE[name]() for name in pair])
    with pytest.raises(ScenarioError, match=r"ensemble|other networks"):
        answered(stack, victim("conv-small", (1, 8, 8)), digits)


@pytest.mark.parametrize(
    "second",
    [
        MeCo(retrain="fine-tune", epochs=0, scale=0.1),
        AdaptiveMisinformation(ood="uniform", epochs=1),
    ],
)
def test_what_trains_the_victims_own_weights_further_refuses_an_ensemble(digits, second):
    stack = Stack(layers=[MAKE["misleader"](), second])
    with pytest.raises(ScenarioError, match="an ensemble stands in its place"):
        answered(stack, victim("conv-small", (1, 8, 8)), digits)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_defences_one_after_the_other_keep_what_they_promise(digits, first, second):
    stack = Stack(layers=[MAKE[first](), MAKE[second]()])
    answer = answered(stack, victim("conv-small", (1, 8, 8)), digits)
    assert not answer.fault
    torch.testing.assert_close(answer.posteriors.sum(1), torch.ones(24), atol=1e-6, rtol=0)
    if "timing" in (first, second):
        assert (answer.latency == 1.0).all()
    if not {first, second} & set(FORTRESSES):
        assert (answer.exits == 0).all()


@pytest.mark.parametrize("network", ["mobilenetv2-small", "densenet-small", "mlp-small"])
@pytest.mark.parametrize("name", MAKE)
def test_a_defence_takes_any_network(digits, name, network):
    answer = answered(MAKE[name](), victim(network, (1, 8, 8)), digits)
    assert not answer.fault
    torch.testing.assert_close(answer.posteriors.sum(1), torch.ones(24), atol=1e-6, rtol=0)
