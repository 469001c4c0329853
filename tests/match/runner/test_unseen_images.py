"""No player gets an image that clones are scored on; checkpoints show none of the final ones."""

import zlib

import pytest
import torch
from torch import nn

from agents.base import Attacker, Defender
from arena.evaluation.referee import Referee
from arena.log.store import Log
from arena.runner.match import play
from envs.data.images import SCORED, ImageSet, to_pixels
from envs.data.sources import load
from envs.game.rounds import Countermeasure
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.victim.victim import Victim


def keys(pixels):
    """Name images by their content."""
    return [zlib.crc32(bytes(image.flatten().tolist())) for image in pixels]


class LookUp(nn.Module):
    """A clone that knows the labels of some images by heart, and guesses class 0 for others."""

    def __init__(self, known: ImageSet):
        super().__init__()
        self.labels = dict(zip(keys(known.pixels), known.labels.tolist(), strict=True))

    def forward(self, images):
        known = [self.labels.get(key, 0) for key in keys(to_pixels(images))]
        return nn.functional.one_hot(torch.tensor(known), 10).float()


class Remembering(nn.Module):
    """A clone that keeps every image it is shown."""

    def __init__(self):
        super().__init__()
        self.shown = set()

    def forward(self, images):
        self.shown |= set(keys(to_pixels(images)))
        return torch.zeros(len(images), 10)


class Keeper(Attacker):
    """Notes the images that its clone was shown during the attack."""

    def attack(self, oracle, kit):
        self.clone = Remembering()
        for _ in range(10):
            oracle.query(torch.rand(100, *oracle.threat.image_shape, generator=kit.generator))
        kit.note("shown", "to the clone", images=sorted(self.clone.shown))


class Knowing(Attacker):
    """Knows the images of the checkpoints by heart."""

    def attack(self, oracle, kit):
        self.clone = LookUp(load("digits").checkpoint)
        for _ in range(10):
            oracle.query(torch.rand(100, *oracle.threat.image_shape, generator=kit.generator))


class Watching(Defender):
    """Keeps every image that it is asked."""

    def __init__(self):
        self.asked = set()

    def act(self, view):
        self.asked |= set(keys(to_pixels(view.images)))
        return Countermeasure()

    def carried_state(self):
        return {"asked": sorted(self.asked)}


@pytest.fixture
def played(tmp_path, with_attacker, request):
    """Play an attacker of this module against `Watching`; gives row, checkpoints and events."""

    def run(player):
        watching = tmp_path / "watching.py"
        own = request.module.__file__
        watching.write_text(
            "import importlib.util\n"
            f"spec = importlib.util.spec_from_file_location('of_tests', {own!r})\n"
            "module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "Watching = module.Watching\n"
        )
        scenario = with_attacker(
            player, **{"defenders.undefended.use": f'"{watching}:Watching"', "traffic.benign": 0.5}
        )
        with Log.open(tmp_path / "log.db") as log:
            (row,) = play(scenario, log=log).episodes
            assert row.status == "success", row.error
            return row, log.checkpoints(row.id), {one.kind: one.data for one in log.events(row.id)}

    return run


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_a_defender_serves_benign_images_and_none_that_clones_are_scored_on(played, digits):
    _, _, events = played("Keeper")
    asked = set(events["carried_state"]["carried_state"]["asked"])
    assert asked >= set(keys(digits.benign.pixels))
    for part in ("train", "validation", *SCORED):
        assert not asked & set(keys(digits.parts[part].pixels)), part


def test_what_a_clone_is_shown_during_the_attack_is_no_test_image(played, digits):
    _, _, events = played("Keeper")
    shown = set(events["shown"]["data"]["images"])
    assert shown == set(keys(digits.checkpoint.pixels))


def test_who_knows_the_images_of_the_checkpoints_gains_nothing_in_the_end(played, digits):
    row, checkpoints, _ = played("Knowing")
    assert [point.clone_accuracy for point in checkpoints] == [1.0] * 4
    zeros = (digits.test.labels == 0).double().mean().item()
    assert row.clone_accuracy == pytest.approx(zeros)


@pytest.mark.parametrize(("known", "checkpoint", "final"), [("checkpoint", 1, 0), ("test", 0, 1)])
def test_the_referee_scores_either_part_alone(digits, known, checkpoint, final):
    generator = torch.Generator().manual_seed(0)
    network = registry.build(
        "mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=generator
    )
    parts = [digits.parts[part].select(digits.parts[part].labels > 0) for part in SCORED]
    referee = Referee(*parts, Victim(MultiExit(network, ())))
    clone = LookUp(digits.parts[known])
    assert referee.score_checkpoint(clone).accuracy == checkpoint
    assert referee.score(clone).accuracy == final
    served = network(parts[SCORED.index(known)].images()).argmax(1)
    agreed = (served == parts[SCORED.index(known)].labels).double().mean().item()
    score = referee.score(clone) if known == "test" else referee.score_checkpoint(clone)
    assert score.fidelity == pytest.approx(agreed)
