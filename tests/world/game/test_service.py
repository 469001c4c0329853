"""What a service refuses of its defender and its defences, and what strength 0 means."""

import math

import pytest
import torch

from envs.defences.base import Defence, DeployedDefence
from envs.errors import DefenceError, PlayerError
from envs.exits.rules import Thresholds
from envs.game.clocks import make_clock
from envs.game.counters import Counters
from envs.game.rounds import Countermeasure, Round
from envs.game.service import Service
from envs.nets import registry
from envs.nets.multi_exit import ExitHead, MultiExit
from envs.seeding import Streams
from envs.victim.victim import Victim

CPU = torch.device("cpu")


class Deciding:
    """A defender that decides alike for all requests."""

    def __init__(self, decision):
        self.decision = decision

    def act(self, view):
        return self.decision

    def learn(self, served):
        pass


@pytest.fixture(scope="module")
def victims():
    """A victim with four early exits, and the same network without them."""
    generator = torch.Generator().manual_seed(0)
    backbone = registry.build(
        "resnet10-half", num_classes=10, image_shape=(1, 8, 8), generator=generator
    )
    heads = [ExitHead(width, 10, generator=generator) for width in backbone.widths]
    rule = Thresholds((0.12,) * 4)
    return Victim(MultiExit(backbone, heads), rule=rule), Victim(MultiExit(backbone, ()))


@pytest.fixture
def answered(victims):
    """Answer images by a defence at a strength; gives the request, and the service's fault."""

    def answer(defence, decision=None, *, latency="none", bare=None, victim=None):
        streams = Streams(0)
        service = Service(
            [DeployedDefence("d", defence, victim or victims[0], bare)],
            Deciding(Countermeasure() if decision is None else decision),
            clock=make_clock(latency, streams),
            generator=streams.torch("defence"),
            labels="soft",
        )
        images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        return service.answer(images, client=0), bool(service.fault)

    return answer


class Written(Defence):
    """Serves what `write` makes of the posteriors it is handed."""

    def __init__(self, write, epsilon=0.0):
        self.write, self.epsilon = write, epsilon

    def perturb_posteriors(self, posteriors, serving):
        return self.write(posteriors)


def sevens(posteriors):
    posteriors.zero_()
    posteriors[:, 3] = 7.0
    return posteriors


@pytest.mark.parametrize(
    "write",
    [
        sevens,
        lambda p: (p.data.fill_(0.3), p)[1],
        lambda p: (p.numpy().fill(0.5), p)[1],
        lambda p: p.copy_(p.roll(1, 1)),
        lambda p: (p[:].neg_(), p)[1],
    ],
    ids=["in place", "through data", "through numpy", "rolled", "through a view"],
)
@pytest.mark.parametrize("inference", [False, True])
def test_an_answer_written_in_place_is_measured_against_the_clean_one(write, inference, answered):
    with torch.inference_mode(inference):
        _, fault = answered(Written(write))
    assert fault


def test_an_answer_that_stays_as_it_was_is_no_fault(answered):
    assert not answered(Written(lambda p: p))[1]
    assert not answered(Written(lambda p: p.clone()))[1]


@pytest.mark.parametrize(
    "returned",
    [
        lambda p: p.double(),
        lambda p: p[:, :-1],
        lambda p: p[:1],
        lambda p: None,
        lambda p: p.tolist(),
    ],
)
def test_a_hook_that_returns_something_else_than_it_was_given_is_refused(returned, answered):
    with pytest.raises(DefenceError, match="perturb_posteriors returned"):
        answered(Written(returned, 2.0))


def test_an_answer_in_a_class_of_its_own_is_served_as_a_plain_tensor(answered):
    class Odd(torch.Tensor):
        pass

    request, fault = answered(Written(lambda p: p.as_subclass(Odd)))
    assert type(request.posteriors) is torch.Tensor
    assert not fault


@pytest.mark.parametrize(
    "change", [lambda s: -s - 1, lambda s: s * math.nan, lambda s: s + math.inf]
)
def test_a_time_that_is_none_is_found(change, answered):
    class Mistimed(Defence):
        def perturb_latency(self, latency, serving):
            return change(latency)

    assert answered(Mistimed(), latency="virtual")[1]
    assert not answered(Defence(), latency="virtual")[1]


@pytest.mark.parametrize(
    "values", [(-1, 1.0), (True, 1.0), (0.0, 1.0), (0, 50), (0, -0.1), (0, math.nan), (0, "1")]
)
def test_a_countermeasure_out_of_range_is_refused(values):
    with pytest.raises(PlayerError, match="expected a"):
        Countermeasure(*values)


@pytest.mark.parametrize("decision", [Countermeasure(1), (0, 1.0), "off"])
def test_a_decision_that_names_no_deployed_defence_is_refused(decision, answered):
    with pytest.raises(PlayerError, match="expected"):
        answered(Defence(), decision)


class OnOrOff(Defence):
    interpolates = False


def test_a_defence_that_is_on_or_off_refuses_strengths_between(answered):
    with pytest.raises(PlayerError, match=r"expected strength 0 or 1, got 0\.5"):
        answered(OnOrOff(), Countermeasure(0, 0.5))


def test_strength_0_serves_what_the_unhardened_victim_does(answered, victims):
    _, bare = victims
    off, _ = answered(OnOrOff(), Countermeasure(0, 0.0), bare=bare)
    on, _ = answered(OnOrOff(), bare=bare)
    undefended, _ = answered(Defence(), victim=bare)
    assert torch.equal(off.posteriors, undefended.posteriors)
    assert not torch.equal(off.posteriors, on.posteriors)
    assert off.exits.unique().tolist() == [4]
    assert on.exits.amin() < 4


def test_strength_0_costs_what_the_unhardened_victim_does(answered, victims):
    hardened, bare = victims
    counters = Counters([DeployedDefence("d", OnOrOff(), hardened, bare)], CPU)
    off, _ = answered(OnOrOff(), Countermeasure(0, 0.0), bare=bare)
    on, _ = answered(OnOrOff(), bare=bare)
    costs = [0.0]
    for number, request in enumerate((off, on)):
        counters.on_round(Round(number, request, (request,), request.posteriors))
        tally = counters.read(rounds=1, used=16)
        assert tally.attack.macs == tally.benign.macs
        assert float(counters.attack_counters()[1]) == pytest.approx(tally.attack.macs)
        costs.append(tally.attack.macs)
    assert costs[1] == pytest.approx(16 * bare.profile.macs[-1])
    spent = sum(hardened.profile.macs[int(e)] for e in on.exits)
    assert costs[2] - costs[1] == pytest.approx(spent)


@pytest.mark.parametrize("macs", [-1000, 1.5, math.nan, None])
def test_extra_compute_that_is_no_count_is_refused(macs, victims):
    defence = Defence()
    defence.overhead_macs = macs
    with pytest.raises(DefenceError, match="overhead_macs"):
        Counters([DeployedDefence("d", defence, victims[0])], CPU)
