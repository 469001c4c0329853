"""The defenders that act: a schedule, a detector, a bandit."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.base import Defender
from agents.defenders.bandit import Answers, Bandit, choose
from agents.defenders.detector import Detector
from agents.defenders.schedule import Schedule
from agents.defenders.static import Static
from arena.conformance import check_defender, defender_kit
from envs.data.sources import load
from envs.defences.base import Defence, DeployedDefence
from envs.errors import PlayerError
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Countermeasure, Served, View
from envs.game.traffic import BenignTraffic
from envs.seeding import Streams
from envs.types import ThreatModel

SHAPE = (1, 8, 8)
STEADY, FIRM = Countermeasure(0, 0.0), Countermeasure(1, 1.0)


def set_up(defender: Defender, deployed_defences=2):
    defender.begin(defender_kit(deployed_defences, image_shape=SHAPE))
    return defender


def ask(defender, images, client=0, answered=0, posteriors=None, exits=None):
    """Serve a request; returns the decision it was answered by."""
    view = View(images, client, answered)
    decision = defender.act(view)
    if posteriors is None:
        posteriors = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(len(images), 1)
    if exits is None:
        exits = torch.zeros(len(images), dtype=torch.int64)
    defender.learn(Served(view, decision, posteriors, exits))
    return decision


def ordinary(count, seed=0):
    """Distinct images whose distances from each other are normal."""
    return torch.rand(count, *SHAPE, generator=Streams(seed).torch("ordinary"))


def probing(count, seed=0):
    """Images in pairs a finite difference apart, as a zeroth-order attack asks them."""
    images = ordinary(count // 2, seed)
    return torch.stack([images, (images - 1e-3).clamp_min(0)], 1).flatten(0, 1)


@pytest.mark.parametrize(
    "make",
    [
        partial(Schedule, [{"from": 0, "strength": 0.0}, {"from": 300, "strength": 0.5}]),
        Detector,
        partial(Detector, band=[0.1, 0.2], window=20, every=10, cool_down=50),
        Bandit,
        partial(Bandit, normality=1.0),
    ],
)
def test_defenders_that_act_keep_the_rules(make):
    assert [finding for finding in check_defender(make) if not finding.passed] == []


# static ---------------------------------------------------------------------------------------


def test_a_static_defender_answers_everybody_by_what_it_was_told():
    for defender, decision in (
        (Static(), Countermeasure(0, 1.0)),
        (Static(strength=0.0), STEADY),
        (Static(strength=0.25, defence=1), Countermeasure(1, 0.25)),
    ):
        set_up(defender)
        assert [ask(defender, probing(100), client) for client in (0, 5, 0)] == [decision] * 3
    with pytest.raises(PlayerError, match="uses defence 2, but the scenario brought 2"):
        set_up(Static(defence=2))
    with pytest.raises(PlayerError, match="expected a strength from 0 to 1"):
        Static(strength=1.5)


# schedule -------------------------------------------------------------------------------------


def of_the_page(name):
    """Run the example of the documentation that defines a defender, and return it."""
    text = Path(__file__).parents[3].joinpath("docs", "defenders.md").read_text()
    (code,) = [part.split("```")[0] for part in text.split("```python\n")[1:] if name in part]
    names = {}
    exec(compile(code, "docs/defenders.md", "exec"), names)
    return names[name]


def test_the_page_shows_a_defender_that_uses_what_an_owner_has():
    make = of_the_page("Strangers")
    assert [finding for finding in check_defender(make) if not finding.passed] == []
    kit = defender_kit(image_shape=SHAPE)
    strangers = make()
    strangers.begin(kit)
    own, white = kit.validation.images(slice(0, 32)), torch.ones(32, *SHAPE)
    found = [strangers.act(View(images, 1, 0, victim=kit.victim)) for images in (own, white)]
    assert found == [STEADY, FIRM]


def test_the_example_of_the_documentation_works():
    make = of_the_page("Patient")
    patient = set_up(make(after=150))
    found = [ask(patient, ordinary(100), client) for client in (0, 0, 0, 5)]
    assert found == [STEADY, STEADY, FIRM, STEADY]
    assert [finding for finding in check_defender(make) if not finding.passed] == []


def test_a_piece_holds_from_its_number_of_answers_until_the_next_one():
    pieces = [{"from": 0, "strength": 0.0}, {"from": 100, "defence": 1}, {"from": 500}]
    schedule = set_up(Schedule(pieces))
    found = [schedule.act(View(ordinary(1), 3, n)) for n in (0, 99, 100, 499, 500, 10**7)]
    assert found == [STEADY, STEADY, FIRM, FIRM, Countermeasure(0, 1.0), Countermeasure(0, 1.0)]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "first is from = 0"),
        ([{"from": 5}], "first is from = 0"),
        ([{"from": 0}, {"from": 9}, {"from": 9}], "rising order"),
        ([{"from": 0, "strength": 1.5}], r"pieces\[0\]: expected a strength"),
        ([{"from": 0, "defence": 0.5}], "number of a defence"),
        (
            [{"from": 0, "until": 3}],
            "unknown key 'until'; expected defence, strength, from",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(pieces, message):
    with pytest.raises(PlayerError, match=message):
        Schedule(pieces)


@pytest.mark.parametrize(
    "defender",
    [
        Schedule([{"from": 0, "defence": 2}]),
        Detector(ladder=[{"defence": 2}]),
        Bandit(arms=[{"defence": 2}]),
    ],
)
def test_a_defence_that_is_not_deployed_is_refused_on_set_up(defender):
    with pytest.raises(PlayerError, match="uses defence 2, but the scenario brought 2"):
        set_up(defender)


# detector -------------------------------------------------------------------------------------


def test_a_client_who_probes_is_answered_otherwise_and_nobody_else_is():
    detector = set_up(Detector())
    for turn in range(5):
        ask(detector, probing(100, turn), client=7)
        ask(detector, ordinary(100, 50 + turn), client=8)
    assert detector.act(View(ordinary(1), 7, 0)) == FIRM
    assert detector.act(View(ordinary(1), 8, 0)) == STEADY
    assert detector.act(View(ordinary(1), -1, 0)) == STEADY
    assert {note.data["client"] for note in detector.notes()} == {7}


def test_alarms_climb_the_ladder_step_by_step_and_stay_at_its_top():
    ladder = [{"strength": 0.5}, {"strength": 1.0}, {"defence": 1}]
    detector = set_up(Detector(ladder=ladder))
    found = [ask(detector, probing(100, turn), answered=500 * turn) for turn in range(8)]
    steps = [Countermeasure(0, 0.5), Countermeasure(0, 1.0), FIRM]
    # 300 queries give the first 200 distances and a test that is due
    assert found == [STEADY] * 3 + [*steps, FIRM, FIRM]
    assert [note.data["level"] for note in detector.notes()] == [1, 2, 3, 3, 3, 3]
    assert [note.data["asked"] for note in detector.notes()] == [300, 400, 500, 600, 700, 800]
    assert [note.answered for note in detector.notes()] == [1100, 1600, 2100, 2600, 3100, 3600]


@pytest.mark.parametrize("make", [Detector, Bandit])
def test_queries_are_compared_by_the_label_that_was_served(make):
    """Two probes of a pair share the most likely class, and not the least likely one."""
    told = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]]).repeat(50, 1)
    defender = set_up(make())
    for turn in range(6):
        ask(defender, probing(100, turn), posteriors=told, answered=100 * turn)
    (last,) = defender.notes()[-1:]
    assert (last.answered, last.data.get("suspects", 1)) == (600, 1)


def test_a_suspect_who_keeps_quiet_cools_down():
    detector = set_up(Detector(cool_down=400))
    for turn in range(3):
        ask(detector, probing(100, turn))
    assert detector.act(View(ordinary(1), 0, 0)) == FIRM
    for turn in range(8):  # the window holds probes for two tests more
        ask(detector, ordinary(100, 50 + turn))
    assert detector.act(View(ordinary(1), 0, 0)) == STEADY


def test_without_cooling_a_suspect_stays_one():
    detector = set_up(Detector())
    for turn in range(3):
        ask(detector, probing(100, turn))
    for turn in range(8):
        ask(detector, ordinary(100, 50 + turn))
    assert detector.act(View(ordinary(1), 0, 0)) == FIRM


def test_uniform_noise_has_normal_distances_and_only_a_band_finds_it():
    shape, place = set_up(Detector()), set_up(Detector(band=[0.9, 1.7]))
    for turn in range(10):
        for detector in (shape, place):
            ask(detector, ordinary(100, turn))
    assert shape.notes() == []
    assert place.notes()[0].data["reason"] == "place"


def test_the_longest_unseen_client_is_forgotten_first():
    detector = set_up(Detector(most_clients=2))
    for turn in range(3):
        ask(detector, probing(100, turn), client=1)
    ask(detector, ordinary(1), client=2)
    ask(detector, ordinary(1, 1), client=1)
    ask(detector, ordinary(1), client=3)  # forgets 2
    assert detector.act(View(ordinary(1), 1, 0)) == FIRM
    ask(detector, ordinary(1, 1), client=3)
    ask(detector, ordinary(1), client=2)  # forgets 1
    assert detector.act(View(ordinary(1), 1, 0)) == STEADY


@pytest.mark.parametrize(
    "wrong",
    [
        {"normality": 1.5},
        {"band": [2.0, 1.0]},
        {"window": 5},
        {"every": 0},
        {"ladder": []},
        {"cool_down": 0},
        {"calm": {"strength": -1}},
    ],
)
def test_a_detector_out_of_range_is_refused(wrong):
    with pytest.raises(PlayerError, match="expected"):
        Detector(**wrong)


def test_dfme_is_flagged_within_5000_queries_and_benign_users_of_digits_are_not(game, kit):
    """Four benign clients ask the 600 held-out digits, again and again."""
    bare, _ = game(1)
    streams = Streams(0)
    detector = set_up(Detector())
    traffic = BenignTraffic(
        load("digits").test, share=0.6, clients=4, generator=streams.torch("traffic")
    )
    deployed_defence = DeployedDefence("none", Defence(), bare.deployed_defences[0].victim)
    match = ExtractionGame(
        ThreatModel(4, SHAPE, 3000),
        [deployed_defence, deployed_defence],
        detector,
        clock=make_clock("none", streams),
        streams=streams,
        traffic=traffic,
    )
    DFME(batch=64, clone_rate=0.1).attack(GameOracle(match), kit())
    assert match.tally().benign.answered == 4500
    assert {note.data["client"] for note in detector.notes()} == {*match.attacker_clients}
    assert detector.notes()[0].data["asked"] <= 3000


# bandit ---------------------------------------------------------------------------------------


def test_untried_arms_come_first_in_order():
    assert choose([], 3, weight=1) == 0
    assert choose([(0, 1.0)], 3, weight=1) == 1
    assert choose([(0, 1.0), (2, 1.0)], 3, weight=1) == 1


def test_the_bound_is_ucb1s():
    """Worker-computed: after 10 plays 2 ln 10 = 4.605; 0.8 + 0.7587 against 0.5 + 1.5174."""
    past = [(0, 0.8)] * 8 + [(1, 0.5)] * 2
    assert choose(past, 2, weight=1) == 1
    assert choose(past, 2, weight=0) == 0
    # the gap of 0.3 is bridged by a weight of 0.3 / (1.5174 - 0.7587) = 0.3954
    assert choose(past, 2, weight=0.395) == 0
    assert choose(past, 2, weight=0.396) == 1


def test_the_leak_is_0_for_constant_answers_and_1_for_sure_answers_of_every_class():
    def leak(posteriors):
        answers = Answers(posteriors)
        answers.add(posteriors, torch.zeros(len(posteriors), dtype=torch.int64))
        return answers.read()["leak"]

    assert leak(torch.eye(4)) == pytest.approx(1)
    assert leak(torch.full((8, 4), 0.25)) == pytest.approx(0)
    assert leak(torch.eye(4)[[2, 2, 2]]) == 0
    half = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])  # one bit of two
    assert leak(half) == pytest.approx(0.5)


def test_counting_is_the_same_however_answers_are_split():
    posteriors = torch.rand(90, 5, generator=Streams(1).torch("p")).softmax(1)
    exits = torch.arange(90) % 3
    whole, split = Answers(posteriors), Answers(posteriors)
    whole.add(posteriors, exits)
    for start in range(0, 90, 7):
        split.add(posteriors[start : start + 7], exits[start : start + 7])
    assert whole.read() == pytest.approx(split.read())
    assert whole.read()["depth"] == 180
    assert whole.read()["exits"] == 3


def live(bandit, turn):
    """One episode: defence 0 tells a prober everything, defence 1 nothing."""
    set_up(bandit)
    bandit.load_carried_state(json.loads(json.dumps(live.carried_state)))
    for number in range(6):
        images = probing(100, 100 * turn + number)
        sure = torch.eye(4)[torch.arange(100) // 2 % 4]  # a pair of probes shares its label
        told = sure if bandit.act(View(images, 0, 0)).defence == 0 else sure[:1].repeat(100, 1)
        ask(bandit, images, posteriors=told)
        ask(bandit, ordinary(50, number), client=1, posteriors=sure[:50])
    live.carried_state = bandit.carried_state()
    return bandit.chosen


def test_over_episodes_the_arm_that_tells_suspects_less_is_preferred():
    live.carried_state = {}
    chosen = [live(Bandit(exploration=0.1), turn) for turn in range(6)]
    assert chosen == [0, 1, 1, 1, 1, 1]
    past = live.carried_state["past"]
    assert [seen["arm"] for seen in past] == chosen
    assert past[0]["leak"] > 0.9
    assert past[0]["depth"] == 1  # of suspects and of all others: every answer left at exit 0
    assert past[1]["leak"] == 0


def test_an_arm_is_held_for_the_whole_episode():
    bandit = set_up(Bandit(arms=[{"strength": 0.25}, {"defence": 1}]))
    found = [ask(bandit, probing(100, turn)) for turn in range(6)]
    assert found == [Countermeasure(0, 0.25)] * 6
    assert bandit.notes()[0].data["suspects"] == 1


def test_compute_and_doubt_have_their_price():
    def reward(**prices):
        settings = {"leak_price": 0, "compute_price": 0, "utility_price": 0} | prices
        bandit = set_up(Bandit(**settings))
        past = [
            {"arm": 0, "leak": 0.5, "doubt": 0.1, "depth": 2.0, "exits": 2.0},
            {"arm": 1, "leak": 0.0, "doubt": 0.3, "depth": 1.0, "exits": 4.0},
        ]
        return bandit._scored(past)

    assert reward() == [(0, 1), (1, 1)]
    assert reward(leak_price=1) == [(0, 0.5), (1, 1)]
    assert reward(compute_price=1) == [(0, 0.5), (1, 0.75)]
    assert [score for _, score in reward(utility_price=1)] == pytest.approx([0.9, 0.7])
    assert reward(leak_price=9) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("wrong", [{"leak_price": -1}, {"exploration": -0.1}, {"arms": []}])
def test_a_bandit_out_of_range_is_refused(wrong):
    with pytest.raises(PlayerError, match="expected"):
        Bandit(**wrong)


def test_a_bandit_that_answered_nothing_has_no_lesson():
    bandit = set_up(Bandit())
    assert bandit.carried_state() == {}
    assert bandit.notes() == ()
    assert Answers(torch.eye(3)).read()["leak"] == 0
