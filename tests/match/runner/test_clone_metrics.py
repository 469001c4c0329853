"""Metrics of a clone that a scenario asks for: taken at the end, kept, compared, verified."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from arena.analysis import frames
from arena.analysis.pairing import pair
from arena.cli.app import app
from arena.evaluation.adversarial_transfer import AdversarialTransfer
from arena.evaluation.clone_metric import CloneMetric, Handed, measured
from arena.log.store import Log
from arena.replay.verify import verify
from arena.runner.match import play
from arena.runner.stopping import stopping
from arena.scenario import load
from envs.data.images import ImageSet
from envs.errors import ArenaError, ScenarioError

METRICS = """
import sys
import torch
from arena.evaluation.clone_metric import CloneMetric


class Sure(CloneMetric):
    '''Mean confidence of the clone, times `scale`.'''

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def measure(self, handed):
        assert not handed.clone.training and not torch.is_inference_mode_enabled()
        assert handed.victim(handed.test.images(slice(0, 3))).shape == (3, 10)
        with torch.no_grad():
            confidences = handed.clone(handed.test.images()).softmax(1).amax(1)
        return self.scale * confidences.mean().item()


class Odd(CloneMetric):
    def __init__(self, how: str) -> None:
        self.how = how

    def measure(self, handed):
        if self.how == "exits":
            sys.exit("enough")
        if self.how == "interrupts":
            raise KeyboardInterrupt
        return {"raises": lambda: 1 / 0, "text": lambda: "much", "nan": lambda: float("nan"),
                "unknown": lambda: None}[self.how]()
"""


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.py"
    path.write_text(METRICS)
    return path


@pytest.fixture
def rows(tiny_file, tmp_path):
    """Play the tiny scenario with metrics; gives the rows and their events."""

    def run(*asked, **changes):
        scenario = load(str(tiny_file(metrics=list(asked), **changes)))
        scenario.check()
        with Log.open(tmp_path / "a.db") as log, stopping():
            found = play(scenario, log=log).episodes
            return found, [log.events(row.id) for row in found]

    return run


def test_a_metric_of_a_file_is_kept_shown_compared_and_verified(rows, metrics, tmp_path):
    sure = {"use": f"{metrics}:Sure", "name": "confidence", "params": {"scale": 2.0}}
    found, _ = rows(sure, attackers=[{"use": "noise"}, {"use": "random-generator"}])
    values = [row.clone_metrics["confidence"] for row in found]
    assert all(0.2 < value <= 2 for value in values)
    (contrast,) = (
        pair(found, "noise", "random-generator", measures=["confidence"]).meetings[0].contrasts
    )
    by = {name: [row.clone_metrics["confidence"] for row in found if row.attacker == name]
          for name in ("noise", "random-generator")}  # fmt: skip
    assert contrast.first == by["noise"][0]
    with Log.open(tmp_path / "a.db") as log:
        kept = [one["confidence"] for one in frames.episodes(log).clone_metrics]
        assert sorted(kept) == sorted(values)
        told = verify(log, found[0].id, trust_plugins=True)
        assert told.same, told.differences
        with log.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE episode SET clone_metrics = '{\"confidence\": 0.5}'")
        told = verify(log, found[0].id, trust_plugins=True)
        assert [one.what for one in told.differences] == ["clone_metrics"]
    board = CliRunner().invoke(app, ["episodes", "show", found[0].id, "--log", tmp_path / "a.db"])
    assert "confidence" in board.output, board.output


def test_another_source_or_parameter_is_another_episode_and_none_is_as_before(tiny_file, metrics):
    def plan(*asked):
        (one,) = load(str(tiny_file(metrics=list(asked)))).plans()
        return one

    sure = {"use": f"{metrics}:Sure"}
    hashes = [plan().hash, plan(sure).hash, plan({**sure, "params": {"scale": 2.0}}).hash]
    metrics.write_text(METRICS.replace("self.scale *", "3 *"))
    hashes.append(plan(sure).hash)
    assert len(set(hashes)) == 4
    assert "metrics" not in plan().model_dump(mode="json")


FAULTS = {
    "raises": "ZeroDivisionError: division by zero",
    "exits": "SystemExit: enough",
    "interrupts": "KeyboardInterrupt: no message",
    "text": "expected a finite number or None, got 'much'",
    "nan": "expected a finite number or None, got nan",
    "unknown": "cannot be known of this clone and this victim",
}


def test_a_metric_that_fails_costs_its_value_alone(rows, metrics):
    odd = [{"use": f"{metrics}:Odd", "name": how, "params": {"how": how}} for how in FAULTS]
    ((row,), (events,)) = rows(*odd, f"{metrics}:Sure")
    assert (row.status, list(row.clone_metrics)) == ("success", ["Sure"])
    told = [one.message for one in events if one.kind == "not-measured"]
    assert told == [f"metric '{how}': {reason}" for how, reason in FAULTS.items()]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["adversarial"], "metrics.0: no metric named 'adversarial'"),
        ([{"use": "adversarial-transfer", "params": {"steps": 0}}], "metrics.0.params.steps"),
        ([{"use": "adversarial-transfer", "name": "clone_accuracy"}],
         "metrics: 'clone_accuracy' stands for something else in every table; give yours another"),
        ([{"use": "adversarial-transfer", "name": "utility_loss"}], "something else"),
        ([{"use": "adversarial-transfer", "name": "n"}], "'n' stands for something else"),
        (["adversarial-transfer"] * 2, "metrics: 2 are named 'adversarial-transfer'"),
        (["noise"], "no metric named 'noise'"),
    ],
)  # fmt: skip
def test_a_metric_that_is_none_is_refused_before_anything_is_played(tiny_file, asked, line):
    with pytest.raises(ScenarioError, match=line):
        load(str(tiny_file(metrics=asked))).check()


class Scored(nn.Module):
    """Two classes by one pixel: the second where it is above a half."""

    def __init__(self, pixel):
        super().__init__()
        self.pixel = pixel

    def forward(self, images):
        value = 20 * (images.flatten(1)[:, self.pixel] - 0.5)
        return torch.stack([-value, value], 1)


@pytest.fixture
def handed():
    """A clone and a victim that look at the first of four pixels, and 32 images."""
    pixels = torch.randint(100, 156, (32, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    victim = Scored(0)
    labels = victim(pixels / 255).argmax(1)
    test = ImageSet(pixels.to(torch.uint8), labels, 2, "two", ("0", "1"))
    chance = torch.Generator().manual_seed(0)
    return Handed(
        Scored(0).train(),
        lambda images: victim(images).softmax(1),
        test,
        chance,
        torch.device("cpu"),
    )


@pytest.mark.parametrize(
    ("clone", "epsilon", "share"),
    [(0, 0.2, 1.0), (0, 1e-4, 0.0), (3, 0.2, 0.0)],  # pixels lie within 0.11 of a half
)
def test_examples_made_on_a_clone_fool_the_victim_that_looks_at_the_same(
    handed, clone, epsilon, share
):
    pytest.importorskip("foolbox")
    handed = replace(handed, clone=Scored(clone).train())
    before = torch.get_rng_state()
    assert measured(AdversarialTransfer(epsilon=epsilon), handed) == share
    assert handed.clone.training
    assert torch.equal(torch.get_rng_state(), before)


def test_images_that_the_victim_labels_wrong_do_not_count(handed):
    pytest.importorskip("foolbox")
    wrong = handed.test.labels.clone()
    wrong[:16] = 1 - wrong[:16]
    half = replace(handed, test=replace(handed.test, labels=wrong))
    assert measured(AdversarialTransfer(epsilon=0.2), half) == 1.0
    none = replace(handed, test=replace(handed.test, labels=1 - handed.test.labels))
    assert measured(AdversarialTransfer(epsilon=0.2), none) is None
    assert measured(AdversarialTransfer(), replace(handed, victim=None)) is None


def test_a_truth_value_is_no_number(handed):
    class Yes(CloneMetric):
        def measure(self, handed):
            return True

    with pytest.raises(ArenaError, match="expected a finite number or None, got True"):
        measured(Yes(), handed)
