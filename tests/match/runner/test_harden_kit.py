"""What a defence owns before the game: no image that it is measured on."""

import json
from dataclasses import replace

import pytest
import torch

from arena.log.store import Log
from arena.recording.kept_clones import kept_clone, load_clone
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.runner.setup import Setup
from arena.scenario import Scenario
from envs.data.sources import load
from envs.defences.base import Defence
from envs.defences.harden_kit import HardenKit
from envs.errors import PlayerError
from envs.extraction_env import ExtractionEnv
from envs.seeding import Streams
from envs.training.recipes import Recipe

KITS = []


class Looking(Defence):
    """Keeps its kit."""

    def harden(self, victim, kit):
        KITS.append(kit)
        return victim


def empty(kit, whole):
    """Tell whether a kit holds nothing of the held-out images, and everything else of the set."""
    data = kit.data
    held_out = [data.parts[name] for name in ("benign", "checkpoint", "test")]
    memory = sum(
        tensor.untyped_storage().nbytes()
        for part in held_out
        for tensor in (part.pixels, part.labels)
    )
    same = all(
        torch.equal(getattr(data, part).pixels, getattr(whole, part).pixels)
        for part in ("train", "validation")
    )
    return (
        (sum(map(len, held_out)), memory) == (0, 0)
        and same
        and (data.fingerprint, data.image_shape, data.num_classes, data.mean)
        == (whole.fingerprint, whole.image_shape, whole.num_classes, whole.mean)
    )


def test_a_kit_holds_no_test_image_whatever_made_it():
    whole = load("digits")
    kit = HardenKit(whole, Streams(0), torch.device("cpu"))
    assert len(whole.held_out) > 0
    assert empty(kit, whole)
    assert empty(replace(kit, victim_key={"a": 1}), whole)
    assert empty(replace(kit, data=whole), whole)
    assert kit.data.to("cpu").test.image_shape == (1, 8, 8)


def test_an_environment_hardens_without_test_images():
    KITS.clear()
    ExtractionEnv(victim="mlp-small", recipe=Recipe(epochs=1, batch=64, learning_rate=0.05),
                  defence=Looking())  # fmt: skip
    assert empty(KITS[0], load("digits"))


@pytest.fixture
def hardened(tiny, tmp_path):
    """The kit that a match lends a defence."""
    path = tmp_path / "looking.py"
    path.write_text(
        "from envs.defences.base import Defence\n"
        "KITS = []\n"
        "class Looking(Defence):\n"
        "    def harden(self, victim, kit):\n"
        "        self.kit = kit\n"
        "        return victim\n"
    )
    raw = tiny(defenders=[{"name": "looking", "defence": f"{path}:Looking"}])
    (plan,) = Scenario.parse(raw).plans()
    setup = Setup(torch.device("cpu"), Watcher())
    (deployed,) = setup.set_up_defender(plan).deployed_defences
    return deployed.defence.kit


def test_a_match_hardens_without_test_images(hardened):
    assert empty(hardened, load("digits"))
    assert hardened.load_pool("digits", generator=Streams(0).torch("pool"), split="train")
    for split in ("test", "all", "benign", "checkpoint"):
        with pytest.raises(PlayerError, match="no images of 'digits' on which it is measured"):
            hardened.load_pool("digits", generator=Streams(0).torch("pool"), split=split)


WRECKERS = """
import torch
from agents import Attacker, Countermeasure, Defender
from arena.evaluation.clone_metric import CloneMetric
from envs.defences.base import Defence


def wreck(images):
    images.images().zero_()
    images.pixels.zero_()
    images.labels.zero_()


class Hardens(Defence):
    def harden(self, victim, kit):
        wreck(kit.data.train)
        wreck(kit.data.validation)
        return victim


class Begins(Defender):
    def begin(self, kit):
        wreck(kit.train)
        wreck(kit.validation)

    def act(self, view):
        return Countermeasure()


class Asks(Attacker):
    requires = frozenset({"pool"})

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        wreck(kit.pool)


ARRAYS = torch.rand((300, 1, 8, 8), generator=torch.Generator().manual_seed(0))
ARRAYS = (ARRAYS * 255).to(torch.uint8)


def pool():
    return ARRAYS


class Measures(CloneMetric):
    def measure(self, handed):
        wreck(handed.test)
        with torch.no_grad():
            for tensor in handed.clone.state_dict().values():
                tensor.zero_()
        handed.clone.double()
        return 1.0


class Right(CloneMetric):
    def measure(self, handed):
        answers = handed.clone(handed.test.images()).argmax(1)
        return float((answers == handed.test.labels).double().mean())
"""


LENT = {
    "hardens": {"defenders": [{"name": "hardens", "defence": "AT:Hardens"}]},
    "begins": {"defenders": [{"use": "AT:Begins", "defence": "undefended"}]},
    "measures": {"metrics": [{"use": "AT:Measures"}, {"use": "AT:Right"}], "keep": ["clone"]},
}


@pytest.mark.parametrize("who", LENT)
def test_what_a_player_writes_into_what_it_is_lent_reaches_no_other_game(
    tmp_path, scenario, monkeypatch, who
):
    (tmp_path / "wreckers.py").write_text(WRECKERS)
    wrecking = json.loads(json.dumps(LENT[who]).replace("AT", str(tmp_path / "wreckers.py")))
    bare = {"name": "bare", "defence": "undefended"}
    wrecking["defenders"] = [*wrecking.get("defenders", []), bare]
    found = []
    for number, changes in enumerate(({"defenders": [bare], "keep": ["clone"]}, wrecking)):
        # victims of the second seed are trained after the first episode
        monkeypatch.setenv("ARENA_CACHE", str(tmp_path / f"cache{number}"))
        with Log.open(tmp_path / f"{number}.db") as log:
            rows = play(scenario({**changes, "seeds": [0, 1]}), log=log).episodes
            assert [row.status for row in rows] == ["success"] * len(rows)
            rows = [row for row in rows if row.defender == "bare"]
            found.append(
                [(row.victim_accuracy, row.served_accuracy, row.clone_accuracy) for row in rows]
            )
            kept = [load_clone(kept_clone(log, row.id)) for row in rows if "keep" in changes]
    assert found[0] == found[1]
    if who == "measures":
        assert [row.clone_metrics["Right"] for row in rows] == [row.clone_accuracy for row in rows]
        assert all(total(clone) > 0 for clone in kept)


def test_what_an_attacker_writes_into_a_pool_of_others_reaches_no_other_game(tmp_path, scenario):
    at = tmp_path / "wreckers.py"
    at.write_text(WRECKERS)
    threat = {"budget": 200, "pool": {"use": f"{at}:pool"}}
    digests = []
    for attackers in (["knockoff"], [f"{at}:Asks", "knockoff"]):
        made = scenario({"attackers": [{"use": one} for one in attackers], "threat": threat})
        with Log.open("sqlite://") as log:
            row = play(made, log=log).episodes[-1]
        assert (row.attacker, row.status) == ("knockoff", "success")
        digests.append((row.query_digest, row.clone_accuracy))
    assert digests[0] == digests[1]


def total(network):
    return sum(float(one.detach().abs().sum()) for one in network.parameters())
