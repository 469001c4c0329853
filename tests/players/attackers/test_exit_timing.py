"""The architecture probe, against a simulated channel and against real victims."""

import numpy as np
import pytest
import torch

from agents.attackers import exit_timing
from agents.attackers.exit_timing import ExitTiming
from agents.base import Kit
from agents.defenders.static import Static
from agents.timing_probe import stopwatch
from agents.timing_probe.candidates import candidates
from agents.timing_probe.own_profile import OwnProfile
from agents.timing_probe.probes import ProbeImages
from envs.data.images import ImageSet
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted, Refused, ScenarioError, UnknownName
from envs.exits.random_rules import ByHistogram
from envs.exits.rules import Thresholds, log_odds
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.latency.model import NETWORKS, LatencyModel, make_model
from envs.latency.padding import ConstantTime
from envs.nets import registry
from envs.nets.exit_cost import ExitProfile, profile
from envs.nets.multi_exit import MultiExit, with_heads
from envs.seeding import Streams, image_uniforms
from envs.types import Response, ThreatModel, harden_labels
from envs.victim.victim import Victim

DIGITS, SMALL = (1, 8, 8), (3, 16, 16)
THRESHOLDS = (0.9, 0.92, 0.94, 0.96)


@pytest.fixture(autouse=True)
def briefly_trained(monkeypatch):
    """Train clones for one epoch: what the probe infers does not depend on them."""
    recipe_for = exit_timing.recipe_for
    monkeypatch.setattr(
        exit_timing, "recipe_for", lambda *of: recipe_for(*of).with_changes(epochs=1)
    )


def kit_for(shape, seed=0, *, classes=10, pool=None):
    streams = Streams(seed)

    def new_clone():
        return registry.build(
            "mlp-small",
            num_classes=classes,
            image_shape=shape,
            generator=streams.torch("clone"),
            hidden=16,
        )

    return Kit(torch.device("cpu"), streams.torch("attacker"), new_clone, surrogate_pool=pool)


class SimulatedOracle:
    """Times and answers as a ResNet34-8x with five outputs would give them, without the network.

    The exit of an image is a function of its pixels, each exit equally likely; confidences of an
    exit are uniform above its threshold.
    """

    def __init__(self, budget, model, *, padding=None, labels="soft", seed=0):
        outline = registry.outline("resnet34-8x", num_classes=10, image_shape=SMALL)
        self.profile = profile(with_heads(outline))
        self.threat = ThreatModel(10, SMALL, budget, labels, True)
        self.remaining = budget
        self.asked = 0
        self.model, self.padding, self.seed = model, padding, seed

    def exits(self, images):
        return (image_uniforms(images, 1)[:, 0] * 5).long()

    def query(self, images):
        if len(images) > self.remaining:
            raise BudgetExhausted(f"asked for {len(images)} with {self.remaining} left")
        exits = self.exits(images)
        seconds = self.model.seconds(exits, self.profile, seed=self.seed, first=self.asked)
        if self.padding is not None:
            seconds = self.padding.apply(seconds, exits, images)
        self.remaining -= len(images)
        self.asked += len(images)
        chance = image_uniforms(images, 2, 2)
        floor = torch.tensor([*THRESHOLDS, 0.1])[exits]
        top = (floor + (1 - floor) * chance[:, 0]).float()
        targets = ((1 - top) / 9)[:, None].repeat(1, 10)
        targets[torch.arange(len(images)), (chance[:, 1] * 10).long()] = top
        return Response(
            harden_labels(targets) if self.threat.labels == "hard" else targets, seconds
        )


def simulate(budget, model, *, seed=0, oracle=SimulatedOracle, **options):
    oracle, kit = oracle(budget, model, seed=seed, **options), kit_for(SMALL, seed)
    attacker = ExitTiming()
    attacker.attack(oracle, kit)
    images, _ = kit.shared_findings["transfer"]
    return attacker.inferred, kit.shared_findings, oracle.exits(images), oracle


@pytest.mark.parametrize("most", [120, 150])
def test_no_more_images_are_probed_than_told(most):
    oracle, kit = SimulatedOracle(3000, LatencyModel(noise=0.0)), kit_for(SMALL)
    ExitTiming(most_probes=most).attack(oracle, kit)
    images, _ = kit.shared_findings["transfer"]
    assert len(images) == most


def test_without_jitter_four_exits_and_every_label_are_found():
    """Acceptance 1: exits 4 and 5 differ by a linear layer and count as one."""
    guess, shared_findings, exits, _ = simulate(900, LatencyModel(noise=0.0))

    assert guess.exits_visited == 4
    assert torch.equal(shared_findings["exit_of"], exits.clamp_max(3))
    assert guess.family == "resnet"
    assert guess.exit_costs == pytest.approx([0.197, 0.443, 0.819, 1.0], abs=0.015)


def test_five_percent_of_noise_is_averaged_away():
    """Acceptance 2: labels are right to 0.97 at a standard deviation of 0.05."""
    guess, shared_findings, exits, _ = simulate(2000, LatencyModel(noise=0.05))

    assert guess.exits_visited == 4
    assert (shared_findings["exit_of"] == exits.clamp_max(3)).float().mean() >= 0.97


def test_constant_time_leaves_nothing_to_find():
    """Acceptance 3: labels no better than the most frequent exit, to three standard errors."""
    model = LatencyModel(noise=0.05)
    oracle = SimulatedOracle(1, model)
    deadline = model.expected(oracle.profile, deviations=4)[-1]
    guess, shared_findings, exits, _ = simulate(900, model, padding=ConstantTime(deadline))

    merged = exits.clamp_max(3)
    frequent = merged.bincount().max().item() / len(merged)
    right = (shared_findings["exit_of"] == merged).float().mean().item()
    assert right <= frequent + 3 * (frequent * (1 - frequent) / len(merged)) ** 0.5
    assert (guess.exits_visited, guess.exits, guess.family, guess.depth) == (None,) * 4


def test_soft_answers_tell_the_thresholds_of_the_exits_seen():
    """Acceptance 6, through the whole probe: from above, within 0.005."""
    guess, _, _, _ = simulate(2000, LatencyModel(noise=0.01))

    assert len(guess.thresholds) == 3  # the fourth exit shares its time with the classifier
    for found, true in zip(guess.thresholds, THRESHOLDS, strict=False):
        assert true < found < true + 0.005


@pytest.mark.parametrize("deepest_only", [True, False])
def test_the_clone_learns_from_the_deepest_exit_alone_where_told(monkeypatch, deepest_only):
    learned = []
    monkeypatch.setattr(
        ExitTiming, "_train", lambda self, kit, images, targets: learned.append((images, targets))
    )
    oracle = SimulatedOracle(900, LatencyModel(noise=0.0))
    ExitTiming(deepest_only=deepest_only).attack(oracle, kit_for(SMALL))
    ((images, targets),) = learned
    exits = oracle.exits(images).clamp_max(3)  # the last two take the same time
    assert set(exits.tolist()) == ({3} if deepest_only else {0, 1, 2, 3})
    chance = image_uniforms(images, 2, 2)
    floor = torch.tensor([*THRESHOLDS, 0.1])[oracle.exits(images)]
    assert torch.allclose(targets.amax(1), (floor + (1 - floor) * chance[:, 0]).float())


class Closing(SimulatedOracle):
    """Closes the account after so many answers."""

    after = 600

    def query(self, images):
        if self.asked + len(images) > self.after:
            self.remaining = 0
            raise Refused("cut off", is_closed=True)
        return super().query(images)


def closing(answers, base=Closing):
    return type("ClosingEarly", (base,), {"after": answers})


@pytest.mark.parametrize(
    ("answers", "known"), [(450, True), (700, True), (1200, True), (90, False)]
)
def test_whoever_is_cut_off_infers_from_the_times_there_are(answers, known):
    """Of a budget of 3,000; the last is cut off at the first request for images."""
    oracle, kit = closing(answers)(3000, LatencyModel(noise=0.01)), kit_for(SMALL)
    attacker = ExitTiming()
    attacker.attack(oracle, kit)
    guess = attacker.inferred
    told = (4, "resnet", 34) if known else (None, None, None)
    assert (guess.exits_visited, guess.family, guess.depth) == told
    assert oracle.asked <= answers


def test_what_was_believed_when_the_time_was_up_is_said():
    class TimeUp(BaseException):
        """Ends an attack, which cannot catch it."""

    class Slow(SimulatedOracle):
        def query(self, images):
            if self.asked > 1400:
                raise TimeUp
            return super().query(images)

    attacker = ExitTiming()
    with pytest.raises(TimeUp):
        attacker.attack(Slow(3000, LatencyModel(noise=0.01)), kit_for(SMALL))
    guess = attacker.inferred
    assert (guess.exits_visited, guess.family, guess.depth) == (4, "resnet", 34)


@pytest.mark.parametrize("hardware", [None, "own"])
@pytest.mark.parametrize("answers", [130, 700])
def test_answers_before_a_refusal_stay_with_their_images(monkeypatch, hardware, answers):
    """In requests of a few images, so that a pass over them is cut off in the middle."""
    monkeypatch.setattr(stopwatch, "_REQUEST", 7)
    learned = []
    monkeypatch.setattr(ExitTiming, "_train", lambda self, kit, *answers: learned.append(answers))
    oracle, kit = closing(answers)(3000, LatencyModel(noise=0.0)), kit_for(SMALL)
    monkeypatch.setattr(exit_timing, "own_profile", lambda *form: OwnProfile((), 0.01))
    monkeypatch.setattr(exit_timing, "candidates", lambda *form: ())
    ExitTiming(hardware=hardware).attack(oracle, kit)
    ((images, targets),) = learned
    chance = image_uniforms(images, 2, 2)
    floor = torch.tensor([*THRESHOLDS, 0.1])[oracle.exits(images)]
    assert torch.allclose(targets.amax(1), (floor + (1 - floor) * chance[:, 0]).float())
    assert torch.equal(kit.shared_findings["exit_of"], oracle.exits(images).clamp_max(3))


class Coarse(SimulatedOracle):
    """One whose clock ticks too slowly, and whose answers all come from the last exit."""

    tick = 5e-4

    def exits(self, images):
        return torch.full((len(images),), 4)

    def query(self, images):
        answered = super().query(images)
        return Response(answered.posteriors, (answered.latency / self.tick).floor() * self.tick)


class Pausing(Coarse):
    """One that holds a share of its answers up, each by as much, whatever the image."""

    tick, share, pause = 1e-12, 0.1, 1e-2

    def query(self, images):
        answered = super().query(images)
        held = np.random.default_rng([self.seed, self.asked]).random(len(images)) < self.share
        return Response(answered.posteriors, answered.latency + self.pause * torch.tensor(held))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "noise"), [(0.1, 0.02), (0.05, 0.02), (0.1, 0.2)])
def test_a_pause_that_hits_the_reference_too_is_no_exit(share, noise, seed):
    oracle = type("Often", (Pausing,), {"share": share})
    guess, *_ = simulate(1500, LatencyModel(noise=noise), oracle=oracle, seed=seed)
    assert guess.exits_visited in (1, None)


@pytest.mark.parametrize("tick", [1e-4, 5e-4, 1e-3])
def test_ticks_of_a_clock_are_no_exits(tick):
    oracle = type("Ticking", (Coarse,), {"tick": tick})
    guess, *_ = simulate(1500, LatencyModel(noise=0.02), oracle=oracle)
    assert (guess.exits_visited, guess.family, guess.exits) == (None, None, None)


def test_labels_alone_tell_exits_and_no_threshold():
    guess, shared_findings, _, _ = simulate(900, LatencyModel(noise=0.01), labels="hard")

    assert guess.exits_visited == 4
    assert guess.thresholds is None
    assert shared_findings["widths"] == ()


@pytest.mark.parametrize(
    "budget", [1, 60, *(pytest.param(one, marks=pytest.mark.slow) for one in (7, 59, 333))]
)
def test_references_and_repeats_are_in_the_ledger(budget):
    """Acceptance 5: what the server answered is what was paid, and nothing goes beyond."""
    _, _, _, game = play(resnet10(), budget, model=LatencyModel(noise=0.05), shared_findings=False)

    answered, _ = game.attack_counters()
    assert int(answered.sum()) == game.used <= budget
    assert game.used >= 0.9 * budget


def resnet10(seed=0, *, exits=True):
    """A victim whose exits each take a fifth of the probes; its weights are untrained."""
    streams = Streams(seed).child("victim")
    backbone = registry.build(
        "resnet10", num_classes=10, image_shape=DIGITS, generator=streams.torch("weights")
    )
    if not exits:
        return Victim(MultiExit(backbone, ()))
    network = with_heads(backbone, generator=streams.torch("heads")).eval()
    images = ProbeImages(DIGITS, kit_for(DIGITS, seed + 100)).draw(300)
    with torch.no_grad():
        confidences = [log_odds(logits) for logits in network.forward_all(images)]
    inside, values = torch.ones(len(images), dtype=torch.bool), []
    for e, confidence in enumerate(confidences[:-1]):
        values.append(float(confidence[inside].quantile(1 - 1 / (5 - e))))
        inside &= confidence <= values[-1]
    return Victim(network, rule=Thresholds.from_log_odds(values))


def play(
    victim, budget, *, seed=0, mode="virtual", model=None, network=None, defence=None,
    shared_findings=True, **params
):  # fmt: skip
    streams = Streams(seed)
    game = ExtractionGame(
        ThreatModel(10, DIGITS, budget, "soft", True),
        [DeployedDefence("deployed", defence or Defence(), victim)],
        Static(),
        clock=make_clock(mode, streams, model=model, network=network),
        streams=streams,
    )
    kit = kit_for(DIGITS, seed)
    attacker = ExitTiming(**params)
    attacker.attack(GameOracle(game), kit)
    return attacker.inferred, attacker, kit.shared_findings if shared_findings else {}, game


class Padded(Defence):
    """Constant time, with the headroom the padding asks for."""

    def __init__(self, model, victim):
        self._padding = ConstantTime(model.expected(victim.profile, deviations=4)[-1])

    def perturb_latency(self, latency, serving):
        return self._padding.apply(latency, serving.exits, serving.images)


def test_a_victim_of_digits_is_recognised():
    guess, attacker, shared_findings, _ = play(resnet10(), 600, model=LatencyModel(noise=0.01))

    assert (guess.exits_visited, guess.exits) == (4, 5)
    assert (guess.family, guess.depth) == ("resnet", 10)
    assert guess.architecture is None  # half the width has the same exit_times
    assert shared_findings["architectures"]["resnet10"] == pytest.approx(0.5, abs=0.1)
    assert guess.confidence["family"] > 0.9
    assert attacker.clone(torch.zeros(2, *DIGITS)).shape == (2, 10)
    assert len(shared_findings["latency_cuts"]) == 3
    assert shared_findings["deepest_latency"] == shared_findings["latency_cuts"][-1]


def test_known_hardware_tells_the_network_and_its_width():
    guess, *_ = play(resnet10(), 600, model=make_model("cpu", noise=0.003), hardware="cpu")

    assert (guess.architecture, guess.width) == ("resnet10", 16)


def test_an_undefended_victim_shows_one_exit_and_no_more_is_said():
    guess, *_ = play(resnet10(exits=False), 600, model=LatencyModel(noise=0.01))

    assert guess.exits_visited == 1
    assert (guess.exits, guess.family, guess.depth, guess.exit_costs) == (None,) * 4


def test_under_constant_time_nothing_is_said():
    model, victim = LatencyModel(noise=0.01), resnet10()
    guess, *_ = play(victim, 600, model=model, defence=Padded(model, victim))

    assert (guess.exits_visited, guess.exits, guess.family) == (None, None, None)


def test_a_tiny_budget_says_unknown():
    guess, attacker, *_ = play(resnet10(), 50, model=LatencyModel(noise=0.01))

    assert all(getattr(guess, name) is None for name in ("exits_visited", "exits", "family"))
    assert attacker.clone is not None


def test_exits_drawn_afresh_are_seen_in_repeats_of_one_image():
    victim = resnet10().with_rule(ByHistogram([1] * 5))
    guess, _, shared_findings, _ = play(victim, 600, model=LatencyModel(noise=0.01))

    assert shared_findings["calibration"].fresh_exits
    assert guess.exits_visited == 4


@pytest.mark.parametrize("returns", ["per_exit", "end_of_batch"])
def test_a_server_that_batches_is_asked_one_image_at_a_time(returns):
    guess, _, shared_findings, game = play(
        resnet10(), 200, model=LatencyModel(noise=0.01, returns=returns)
    )

    assert shared_findings["calibration"].batched
    assert guess.exits_visited == 4
    assert game.rounds > 150


@pytest.mark.slow
def test_the_same_seed_asks_and_concludes_the_same():
    runs = [play(resnet10(), 600, seed=3, model=LatencyModel(noise=0.02)) for _ in range(2)]

    assert runs[0][0] == runs[1][0]
    digests = [run[3].tally() for run in runs]
    assert digests[0].query_digest == digests[1].query_digest
    first, second = (run[1].clone.state_dict() for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_probes_are_different_images_and_a_pool_is_asked_first():
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, *DIGITS)
    labels = torch.zeros(40, dtype=torch.int64)
    pool = ImageSet(pixels.clone(), labels, 10, "pool", tuple("0123456789"))
    images = ProbeImages(DIGITS, kit_for(DIGITS, pool=pool)).draw(150)

    assert len(images.unique(dim=0)) == 150
    assert 0 <= images.min() <= images.max() <= 1
    flat = (images.flatten(1).std(1) < 1e-6).sum()
    assert 30 <= flat <= 40  # of the 40, some begin a path


def test_unusable_parameters_are_refused():
    with pytest.raises(UnknownName, match="known hardware"):
        ExitTiming(hardware="abacus")
    with pytest.raises(ScenarioError, match="least_confidence"):
        ExitTiming(least_confidence=2.0)
    with pytest.raises(ScenarioError, match="most_probes"):
        ExitTiming(most_probes=0)


@pytest.mark.slow
def test_five_thousand_queries_recognise_a_victim_of_digits():
    """One percent of noise, ten victims: the exits of 9, family and depth of 8, or better."""
    model = LatencyModel(noise=0.01)
    exits, named, hidden = [], [], []
    for seed in range(10):
        victim = resnet10(seed)
        guess, *_ = play(victim, 5000, seed=seed, model=model)
        exits.append(guess.exits_visited == 4)
        named.append((guess.family, guess.depth) == ("resnet", 10))
        guess, *_ = play(victim, 5000, seed=seed, model=model, defence=Padded(model, victim))
        hidden.append((guess.exits_visited, guess.family, guess.exits) == (None, None, None))

    assert np.sum(exits) >= 9
    assert np.sum(named) >= 8
    assert np.sum(hidden) == 10


class BusyServer(SimulatedOracle):
    """One whose machine takes a share of the answers a turn away, as a busy core does."""

    turn, share = 3e-3, 0.4

    def query(self, images):
        answered = super().query(images)
        chance = np.random.default_rng(self.asked)
        turns = chance.binomial(4, self.share / 2, len(images)) * chance.uniform(0.5, 1.5)
        return Response(answered.posteriors, answered.latency + self.turn * torch.tensor(turns))


def on_a_like_machine(monkeypatch, server, *, budget=1200, seed=0):
    """Let an attacker that has a machine like the server's play."""
    own = [LatencyModel(noise=0.0).expected(costs_of(one)) for one in candidates(SMALL, 10)]
    profile_of = OwnProfile(tuple(np.asarray(seconds) for seconds in own), 0.01)
    monkeypatch.setattr(exit_timing, "own_profile", lambda *form: profile_of)
    kit = kit_for(SMALL, seed)
    oracle = server(budget, LatencyModel(noise=0.01), seed=seed)
    attacker = ExitTiming(hardware="own")
    attacker.attack(oracle, kit)
    return attacker.inferred, kit.shared_findings


def costs_of(candidate):
    shares = tuple(candidate.macs.tolist())
    return ExitProfile(macs=shares, ops=(1,) * len(shares), weight_bytes=(0,) * len(shares))


@pytest.mark.parametrize("seed", [0, 1])
def test_on_a_busy_server_repeats_of_few_images_tell_what_many_images_do_not(monkeypatch, seed):
    guess, findings = on_a_like_machine(monkeypatch, BusyServer, seed=seed)

    assert guess.exits_visited == 4
    images, _ = findings["transfer"]
    assert len(images) == 90  # sixty were asked nineteen times; what was left bought new ones
    assert simulate(1200, LatencyModel(noise=0.01), oracle=BusyServer, seed=seed)[0].family is None


def test_repeats_that_do_not_agree_before_a_refusal_tell_nothing(monkeypatch):
    class OneExit(BusyServer):
        def exits(self, images):
            return torch.full((len(images),), 4)

    class ClosingBusy(OneExit, Closing):
        pass

    said = [
        on_a_like_machine(monkeypatch, closing(200, ClosingBusy), seed=seed)[0]
        for seed in (1, 9, 12, 13)
    ]
    assert {guess.exits_visited for guess in said} <= {1, None}


@pytest.mark.slow
def test_behind_a_network_the_probe_is_right_or_says_unknown():
    model = LatencyModel(noise=0.01)
    said = [
        play(resnet10(seed), 5000, seed=seed, model=model, network=NETWORKS["lan"])[0]
        for seed in range(10)
    ]

    assert {guess.exits_visited for guess in said} <= {4, None}
    assert {guess.family for guess in said} <= {"resnet", None}
    assert sum(guess.exits_visited == 4 for guess in said) >= 4
