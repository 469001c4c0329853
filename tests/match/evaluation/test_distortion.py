"""What was really served: a sample of the game's own answers, against the undefended victim's."""

import pytest
import torch

from arena.evaluation import distortion
from arena.evaluation.distortion import SAMPLE, ServedSample
from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import Scenario
from envs.game.rounds import AnsweredRequest, Countermeasure, Round

SERVED = {
    "checkpoints": 2,
    "victim": {"recipe": {"epochs": 2}},
    "threat": {"budget": 400},
    "traffic": {
        "benign": 0.5,
        "ood_share": 0.25,
        "ood": {"use": "shapes", "params": {"count": 50}},
    },
    "attackers": [{"use": "noise", "params": {"batch": 64}}],
    "defenders": [
        {"defence": "undefended"},
        {"name": "randp", "defence": "randp", "params": {"epsilon": 0.5, "preserve_top1": "off"}},
        {"name": "meco", "defence": "meco", "params": {"retrain": "off", "scale": 0.3}},
    ],
}


def halves(images):
    """A victim of two classes, who sees the first pixel."""
    first = images[:, 0, 0, :1]
    return torch.cat((first, 1 - first), 1)


def pictures(count, value=1.0):
    return torch.full((count, 1, 2, 2), value)


def observe(sample, images, posteriors, *, benign=False, ood=True):
    """Show the sample a round of one request; the attacker asks nothing in a benign one."""
    exits = torch.zeros(len(images), dtype=torch.int64)
    request = AnsweredRequest(images, int(benign), Countermeasure(), posteriors, exits, ood=ood)
    nothing = request._replace(images=images[:0], posteriors=posteriors[:0])
    attack, others = (nothing, (request,)) if benign else (request, ())
    sample.on_round(Round(0, attack, others, attack.posteriors))


def test_distances_and_agreement_are_those_of_the_kind_of_traffic():
    sample = ServedSample(halves, 100, benign=0.5, ood_share=0.5)
    observe(sample, pictures(10), halves(pictures(10)))
    observe(sample, pictures(10), torch.full((10, 2), 0.5), benign=True, ood=False)
    observe(sample, pictures(5), torch.tensor([[0.0, 1.0]]).repeat(5, 1), benign=True)
    assert sample.read() == {
        "attack_distortion_mean": 0.0,
        "attack_distortion_p95": 0.0,
        "attack_agreement": 1.0,
        "attack_sampled": 10.0,
        "benign_distortion_mean": 1.0,
        "benign_distortion_p95": 1.0,
        "benign_agreement": 1.0,  # a tie goes to the lowest class
        "benign_sampled": 10.0,
        "benign_ood_distortion_mean": 2.0,
        "benign_ood_distortion_p95": 2.0,
        "benign_ood_agreement": 0.0,
        "benign_ood_sampled": 5.0,
    }


def test_traffic_that_never_came_has_no_figures():
    assert ServedSample(halves, 100).read() == {}


@pytest.mark.parametrize("request_size", [1, 7, 300, 4000])
def test_the_sample_depends_on_positions_alone_and_stays_bounded(request_size):
    budget = 8 * SAMPLE
    asked = torch.arange(budget).div(budget).view(-1, 1, 1, 1)
    seen = []

    def reference(images):
        seen.append(images.flatten())
        return halves(images)

    sample = ServedSample(reference, budget)
    for part in asked.split(request_size):
        observe(sample, part, halves(part))
    assert sample.read()["attack_sampled"] == SAMPLE
    assert torch.equal(torch.cat(seen), asked.flatten()[::8])


def test_benign_answers_are_sampled_by_how_many_are_to_come():
    """Three of four queries are benign: 24 to 8 of the attack; three of four of them are OOD."""
    sample = ServedSample(halves, 8 * SAMPLE, benign=0.75, ood_share=0.75)
    for ood in (False, True):
        observe(sample, pictures(36), halves(pictures(36)), benign=True, ood=ood)
    found = sample.read()
    assert (found["benign_sampled"], found["benign_ood_sampled"]) == (36 / 6, 36 / 18)


def test_answers_wait_until_enough_are_there(monkeypatch):
    monkeypatch.setattr(distortion, "_TOGETHER", 4)
    seen = []
    sample = ServedSample(lambda images: (seen.append(len(images)), halves(images))[1], 100)
    for count in (3, 2, 3):
        observe(sample, pictures(count), halves(pictures(count)))
    assert seen == [5]


def test_images_that_are_changed_afterwards_are_compared_as_they_were_asked():
    sample = ServedSample(halves, 100)
    images, answers = pictures(4), halves(pictures(4))
    observe(sample, images, answers)
    images.zero_()
    answers.zero_()
    assert sample.read()["attack_distortion_mean"] == 0


def test_a_sample_goes_on_where_another_one_stood():
    budget = 3 * SAMPLE
    asked = torch.rand(budget, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    answers = halves(asked).flip(1)
    whole, first, second = (ServedSample(halves, budget) for _ in range(3))
    for sample, rows in ((whole, slice(None)), (first, slice(0, 700))):
        observe(sample, asked[rows], answers[rows])
    second.restore(first.state())
    observe(second, asked[700:], answers[700:])
    assert second.read() == whole.read()


@pytest.fixture(scope="module")
def played(tmp_path_factory, tiny):
    """The last checkpoint's metrics by defender, and the rows."""
    with Log.open(tmp_path_factory.mktemp("served") / "arena.db") as log:
        rows = play(Scenario.parse(tiny(**SERVED)), log=log).episodes
        assert [row.status for row in rows] == ["success"] * 3, rows
        yield {row.defender: (row, log.checkpoints(row.id)) for row in rows}


def test_the_log_says_how_far_attack_and_benign_answers_were_moved(played):
    for kind in ("attack", "benign", "benign_ood"):
        distances = {
            name: points[-1].metrics[f"{kind}_distortion_mean"]
            for name, (_, points) in played.items()
        }
        assert distances["undefended"] < 1e-6
        # RandP-target moves a row by 0.5 (1 - y_t)
        assert 0.35 < distances["randp"] <= 0.5
        assert distances["meco"] > 0.01


def test_every_checkpoint_holds_what_was_served_until_then(played):
    for _, points in played.values():
        counts = [point.metrics["attack_sampled"] for point in points]
        assert len(points) == 2
        assert counts[0] < counts[1] == 400


def test_looking_at_answers_does_not_change_an_episode(played, tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(ServedSample, "on_round", lambda *args: None)
    with Log.open(tmp_path / "blind.db") as log:
        rows = play(Scenario.parse(tiny(**SERVED)), log=log).episodes
    for row in rows:
        seen = played[row.defender][0]
        assert (row.query_digest, row.answer_digest) == (seen.query_digest, seen.answer_digest)
        assert row.clone_accuracy == seen.clone_accuracy
