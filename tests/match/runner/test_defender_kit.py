"""What a defender is lent in a match: what an owner has, and nothing that it is measured on."""

import pytest
import torch

from agents import Countermeasure, Defender, Note
from arena.log.store import Log
from arena.replay.verify import verify
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.runner.setup import Setup
from envs.data.overlap import digests, scored_digests
from envs.data.sources import load


class Owner(Defender):
    """Answers by how far a request lies from its own images in the victim's features."""

    def begin(self, kit):
        self.kit = kit
        self.centre = kit.victim.features(kit.train.images(slice(0, 64))).mean(0)
        self.asked = {}
        self.times = []

    def act(self, view):
        self.times.append(view.time)
        self.asked[view.account] = self.asked.get(view.account, 0) + len(view.images)
        far = float((view.features() - self.centre).norm(dim=1).mean())
        chance = float(torch.rand((), generator=self.kit.generator))
        return Countermeasure(0, 1.0 if far + chance > 1 else 0.0)

    def learn(self, served):
        self.last = served.view

    def notes(self):
        data = {"asked": sorted(self.asked.values()), "times": self.times[-3:]}
        return [Note("seen", "what was asked", 0, data)]


@pytest.fixture
def owned(tmp_path, scenario, request):
    """Make the scenario of this module's defender."""

    def make(**overrides):
        path = tmp_path / "owner.py"
        path.write_text(
            "import importlib.util\n"
            f"spec = importlib.util.spec_from_file_location('of_tests', {__file__!r})\n"
            "module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "Owner = module.Owner\n"
        )
        defender = {"use": f"{path}:Owner", "defence": "undefended"}
        return scenario({"defenders": [defender]}, **overrides)

    return make


def told(log, id):
    (note,) = [event for event in log.events(id) if event.kind == "seen"]
    return note.data["data"]


def test_a_defender_decides_by_its_own_images_and_the_features_of_a_request(tmp_path, owned):
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(owned(), log=log).episodes
        assert row.status == "success", row.error
        asked, times = told(log, row.id)["asked"], told(log, row.id)["times"]
        # a millisecond an image where the game has no clock
        assert sum(asked) == 1000 + row.benign_answered
        assert times == sorted(times)
        assert 0.9 < times[-1] < sum(asked) / 1000
        assert verify(log, row.id, trust_plugins=True).same


def test_the_clock_of_a_timed_game_is_the_games_own(tmp_path, owned):
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(owned(**{"threat.latency": "virtual"}), log=log).episodes
        times = told(log, row.id)["times"]
        # no millisecond an image, but what the modelled server took
        assert 0 < times[-1] != pytest.approx((1000 + row.benign_answered) / 1000, rel=0.2)
        assert verify(log, row.id, trust_plugins=True).same


def test_a_defender_goes_on_from_a_save_with_what_it_was_lent(tmp_path, owned, break_off, always):
    with Log.open(tmp_path / "whole.db") as log:
        (whole,) = play(owned(), log=log).episodes
        wanted = told(log, whole.id)
    with Log.open(tmp_path / "a.db") as log:
        break_off(500)
        play(owned(), log=log, saving=always)
        break_off(None)
        (row,) = play(owned(), log=log, saving=always).episodes
        assert row.status == "success", row.error
        assert told(log, row.id) == wanted
        assert (row.query_digest, row.answer_digest) == (whole.query_digest, whole.answer_digest)
        assert row.served_accuracy == whole.served_accuracy


def test_a_kit_holds_no_image_that_users_ask_or_clones_are_scored_on(scenario):
    (plan,) = scenario().plans()
    kit = Setup(torch.device("cpu"), Watcher()).set_up_defender(plan).kit
    whole = load("digits")
    assert torch.equal(kit.train.pixels, whole.train.pixels)
    assert torch.equal(kit.validation.pixels, whole.validation.pixels)
    lent = digests(kit.train) | digests(kit.validation)
    assert not lent & (scored_digests(whole) | digests(whole.benign))
    assert kit.deployed_defences == ("undefended",)
