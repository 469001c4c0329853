"""The rules of a round, the ledger, and what an attacker cannot reach."""

import pytest
import torch

from envs.data.images import ImageSet
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted, DefenceError, NotGranted, QueryError
from envs.exits.rules import Thresholds
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Countermeasure
from envs.game.traffic import BenignTraffic
from envs.nets import registry
from envs.nets.multi_exit import ExitHead, MultiExit
from envs.seeding import Streams
from envs.types import ThreatModel
from envs.victim.victim import Victim

SHAPE = (1, 8, 8)


class FirstDefence:
    """A defender that remembers what it saw."""

    def __init__(self, strength=1.0):
        self.views, self.served, self.strength = [], [], strength

    def act(self, view):
        self.views.append(view)
        return Countermeasure(0, self.strength)

    def learn(self, served):
        self.served.append(served)


def make_victim(thresholds=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    backbone = registry.build(
        "resnet10-half", num_classes=10, image_shape=SHAPE, generator=generator
    )
    if thresholds is None:
        return Victim(MultiExit(backbone, ()))
    heads = [ExitHead(width, 10, generator=generator) for width in backbone.widths]
    return Victim(MultiExit(backbone, heads), rule=Thresholds(thresholds))


def count_seen(victim):
    """Count the images that really enter the victim's network."""
    seen = []
    assert victim.profile.macs  # the cost is counted once, by running the network on paper
    victim.network.backbone.stages[0].register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]))
    )
    return seen


def make_game(
    *, budget=100, labels="soft", latency="none", defence=None, victim=None, benign=0, defender=None
):
    streams = Streams(3)
    defence, victim = defence or Defence(), victim or make_victim()
    traffic = None
    if benign:
        pixels = torch.randint(0, 256, (50, *SHAPE), dtype=torch.uint8)
        images = ImageSet(pixels, torch.arange(50) % 10, 10, "fake", tuple("0123456789"))
        traffic = BenignTraffic(images, share=benign, generator=streams.torch("traffic"))
    threat = ThreatModel(10, SHAPE, budget, labels, latency != "none")
    return ExtractionGame(
        threat,
        [DeployedDefence("d", defence, victim)],
        defender or FirstDefence(),
        clock=make_clock(latency, streams),
        streams=streams,
        traffic=traffic,
    )


def images(count, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_charged_queries_equal_images_the_victim_really_saw():
    victim = make_victim((0.5, 0.5, 0.5, 0.5))
    seen = count_seen(victim)
    game = make_game(victim=victim)
    for count in (1, 33, 7, 59):
        game.play(images(count))
    assert game.used == sum(seen) == game.tally().attack.answered == 100
    assert game.over


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (images(4)[0], "shape"),
        (torch.rand(4, 3, 8, 8), "shape"),
        (torch.rand(4, 1, 9, 8), "shape"),
        (images(4).double(), "float32"),
        ((images(4) * 255).to(torch.uint8), "float32"),
        (images(0), "empty"),
        (images(4) * 2, "outside"),
        (images(4) - 1, "outside"),
        (torch.full((4, *SHAPE), float("nan")), "NaN"),
        (torch.full((4, *SHAPE), float("inf")), "infinity"),
        ([[0.0]], "Tensor"),
    ],
)
def test_a_malformed_query_is_refused_and_costs_nothing(bad, word):
    victim = make_victim()
    seen = count_seen(victim)
    game = make_game(victim=victim)
    with pytest.raises(QueryError, match=word):
        game.play(bad)
    assert (game.used, seen) == (0, [])
    assert game.tally().query_digest == "0" * 16


def test_a_query_over_budget_costs_nothing_and_says_what_is_left():
    game = make_game(budget=100)
    game.play(images(96))
    with pytest.raises(BudgetExhausted, match="asked for 8 answers with 4 of 100 left"):
        game.play(images(8))
    assert game.remaining == 4
    game.play(images(4))
    with pytest.raises(BudgetExhausted, match="with 0 of 100"):
        game.play(images(1))


def test_the_undefended_answer_is_bit_equal_to_the_victim():
    game = make_game()
    asked = images(32)
    victim = game.deployed_defences[0].victim
    assert torch.equal(game.play(asked).posteriors, victim.posteriors(asked))


def test_hard_labels_are_one_hot_of_the_argmax():
    soft = make_game().play(images(32)).posteriors
    hard = make_game(labels="hard").play(images(32)).posteriors
    assert torch.equal(hard.argmax(1), soft.argmax(1))
    assert torch.equal(hard.sum(1), torch.ones(32))
    assert set(hard.unique().tolist()) == {0.0, 1.0}


def test_latency_is_refused_unless_granted_and_seconds_when_it_is():
    with pytest.raises(NotGranted, match="latency"):
        _ = make_game().play(images(2)).latency
    for mode in ("virtual", "wall"):
        latency = make_game(latency=mode).play(images(5)).latency
        assert latency.shape == (5,)
        assert latency.dtype == torch.float64
        assert bool((latency > 0).all())


def test_no_public_attribute_of_the_oracle_leads_to_the_game_or_the_victim():
    game = make_game()
    oracle = GameOracle(game)
    hidden = {
        id(game),
        id(game.deployed_defences[0].victim),
        id(game.deployed_defences[0].victim.network),
    }
    frontier, met = [oracle], set()
    while frontier:
        thing = frontier.pop()
        if id(thing) in met:
            continue
        met.add(id(thing))
        assert id(thing) not in hidden
        if type(thing).__module__.startswith(("envs", "agents")):
            names = [name for name in dir(thing) if not name.startswith("_")]
            frontier += [getattr(thing, name) for name in names]
    assert not hasattr(oracle, "__dict__")
    with pytest.raises(AttributeError):
        oracle.budget = 10**9
    response = oracle.query(images(3))
    assert {name for name in dir(response) if not name.startswith("_")} == {"latency", "posteriors"}


def test_the_threat_model_cannot_be_changed_by_the_attacker():
    oracle = GameOracle(make_game())
    with pytest.raises(AttributeError):
        oracle.threat.budget = 10**9


def test_changing_an_answer_or_a_query_afterwards_changes_nothing_in_the_game():
    first, second = make_game(), make_game()
    for game in (first, second):
        asked = images(8)
        response = game.play(asked)
        if game is first:
            response.posteriors.zero_()
            asked.zero_()
        game.play(images(8, seed=1))
    assert first.tally().answer_digest == second.tally().answer_digest
    assert first.tally().query_digest == second.tally().query_digest


class Scribbler(FirstDefence):
    """A defender that writes into what it is shown."""

    def __init__(self, hook, scribble):
        super().__init__()
        self.hook, self.scribble = hook, scribble

    def act(self, view):
        if self.hook == "act":
            self.scribble(view.images)
        return super().act(view)

    def learn(self, served):
        if self.hook == "learn":
            self.scribble(served)


@pytest.mark.parametrize(
    ("hook", "scribble"),
    [
        ("act", lambda images: images.mul_(0.5)),
        ("learn", lambda served: served.view.images.zero_()),
        ("learn", lambda served: served.posteriors.fill_(0.1)),
        ("learn", lambda served: served.posteriors[0].neg_()),
        ("learn", lambda served: served.exits.fill_(3)),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_what_a_defender_writes_into_a_request_stays_with_the_defender(hook, scribble, inference):
    quiet, game = make_game(), make_game(defender=Scribbler(hook, scribble))
    asked = images(4)
    with torch.inference_mode(inference):
        given = game.play(asked).posteriors
    assert torch.equal(asked, images(4))
    assert torch.equal(given, quiet.play(images(4)).posteriors)
    assert game.tally().query_digest == quiet.tally().query_digest
    assert game.tally().answer_digest == quiet.tally().answer_digest
    assert game.tally().attack.exits == quiet.tally().attack.exits


class Observing:
    """An observer that keeps the rounds, and what the game had counted when it saw them."""

    def __init__(self, game, name="", order=None):
        self.game, self.name, self.order = game, name, [] if order is None else order
        self.rounds, self.answered = [], []

    def on_round(self, round):
        self.rounds.append(round)
        self.order.append(self.name)
        self.answered.append(self.game.tally().attack.answered)


def test_observers_see_a_finished_round_in_their_order_after_the_counters():
    defender, order = FirstDefence(0.5), []
    game = make_game(benign=0.5, labels="hard", victim=make_victim((0.11,) * 4), defender=defender)
    first, second = (Observing(game, name, order) for name in ("first", "second"))
    game.add_observers(first, second)
    response = game.play(images(4))
    (round,) = first.rounds
    assert second.rounds == [round]
    assert (order, first.answered) == (["first", "second"], [4])
    assert round.number == 0
    assert round.given is response.posteriors
    for request, served in zip((*round.benign, round.attack), defender.served, strict=True):
        assert request.countermeasure == Countermeasure(0, 0.5)
        assert request.client == served.view.client
        assert torch.equal(request.posteriors, served.posteriors)
        assert torch.equal(request.exits, served.exits)
    (benign,) = round.benign
    assert benign.labels.shape == (4,)
    assert (round.attack.labels, round.attack.ood, benign.ood) == (None, True, False)


def test_an_observer_sees_no_round_that_was_refused():
    game = make_game(budget=8)
    observer = Observing(game)
    game.add_observers(observer)
    for refused, error in ((images(9), BudgetExhausted), (images(4) * 2, QueryError)):
        with pytest.raises(error):
            game.play(refused)
    assert observer.rounds == []
    game.play(images(8))
    assert len(observer.rounds) == 1


def test_an_attacker_may_ask_in_inference_mode():
    with torch.inference_mode():
        answers = make_game().play(images(4)).posteriors
    assert torch.equal(answers, make_game().play(images(4)).posteriors)


def test_a_defence_that_writes_into_queries_perturbs_its_own_copy():
    class InPlace(Defence):
        def perturb_images(self, images, *, strength, generator):
            return images.add_(0.1).clamp_(max=1)

    asked, game, undefended = images(4), make_game(defence=InPlace()), make_game()
    perturbed = game.play(asked).posteriors
    assert torch.equal(asked, images(4))
    assert torch.equal(perturbed, undefended.play((images(4) + 0.1).clamp(max=1)).posteriors)


def test_answers_do_not_depend_on_how_queries_are_split_into_batches():
    asked = images(64)
    one, game = (make_game(victim=make_victim((0.2,) * 4)) for _ in range(2))
    whole = one.play(asked).posteriors
    parts = torch.cat([game.play(part).posteriors for part in asked.split((1, 30, 33))])
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)


def test_benign_traffic_keeps_its_share_is_not_charged_and_not_told_apart():
    defender = FirstDefence()
    game = make_game(benign=0.25, defender=defender)
    for count in (1, 2, 30, 60):
        game.play(images(count))
    tally = game.tally()
    assert (tally.attack.answered, tally.benign.answered, game.used) == (93, 31, 93)
    assert tally.benign_labelled == 31
    assert len({view.client for view in defender.views}) == 2
    assert len(defender.views) == len(defender.served)
    assert sum(len(view.images) for view in defender.views) == 124


def test_macs_are_the_histogram_times_the_profile():
    victim = make_victim((0.11, 0.12, 0.13, 0.14))
    game = make_game(victim=victim)
    game.play(images(100))
    tally = game.tally()
    (exits,) = tally.attack.exits
    expected = sum(n * cost for n, cost in zip(exits, victim.profile.macs, strict=True))
    assert (sum(exits), tally.attack.macs) == (100, expected)


def test_a_defence_that_leaves_the_simplex_is_found_at_the_next_reading():
    class Broken(Defence):
        def perturb_posteriors(self, posteriors, serving):
            return posteriors * 2

    game = make_game(defence=Broken())
    game.play(images(4))
    with pytest.raises(DefenceError, match="probability vector"):
        game.tally()


def test_a_defence_that_breaks_its_l1_promise_is_found():
    class Liar(Defence):
        epsilon = 0.1

        def perturb_posteriors(self, posteriors, serving):
            return posteriors.roll(1, dims=1)

    victim = make_victim()
    with torch.no_grad():
        victim.network.backbone.classifier.weight.mul_(100)  # confident, so a roll is far away
    game = make_game(defence=Liar(), victim=victim)
    game.play(images(64))
    with pytest.raises(DefenceError, match="L1 budget"):
        game.tally()


def test_the_knob_reaches_the_defence():
    heard = []

    class Listening(Defence):
        def perturb_posteriors(self, posteriors, serving):
            heard.append((serving.strength, serving.labels, len(serving.exits)))
            return posteriors

    make_game(defence=Listening(), defender=FirstDefence(0.25), labels="hard").play(images(3))
    assert heard == [(0.25, "hard", 3)]


def test_the_victim_keeps_no_graph_of_a_query_that_wants_gradients():
    game = make_game()
    assert not game.play(images(4).requires_grad_()).posteriors.requires_grad
    parameters = game.deployed_defences[0].victim.network.parameters()
    assert all(parameter.grad is None for parameter in parameters)


def test_masked_and_compacted_victims_play_the_same_game():
    made, exits = make_victim((0.12,) * 4), []
    for execution in ("compacted", "masked"):
        game = make_game(victim=Victim(made.network, rule=made.rule, execution=execution))
        game.play(images(60))
        exits.append(game.tally().attack.exits)
    assert exits[0] == exits[1]


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_victim_that_answers_nonsense_is_found_at_the_next_reading(spoilt):
    class Broken(Victim):
        def answer(self, images, *, generator, ood=False):
            answer = super().answer(images, generator=generator, ood=ood)
            answer.posteriors[2, 3] = spoilt
            return answer

    game = make_game(victim=Broken(make_victim().network))
    game.play(images(4))
    with pytest.raises(DefenceError, match="probability vector"):
        game.tally()
