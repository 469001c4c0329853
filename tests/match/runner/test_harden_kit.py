"""What a defence owns before the game: no image that it is measured on."""

from dataclasses import replace

import pytest
import torch

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
