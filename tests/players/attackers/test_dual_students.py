"""Dual Students by the authors' formulas: the generator's loss, the queries, who is handed in."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.dual_students import DualStudents


class Fixed(torch.nn.Module):
    """A student of three classes with the same logits for every image."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits + 0 * images.flatten(1).sum(1, keepdim=True)


def prepared(oracle, kit, students, **options):
    attacker, left = DualStudents(**options), iter(students)
    attacker.prepare(oracle, replace(kit, new_clone=lambda: next(left)))
    return attacker


def test_the_generator_descends_minus_the_distance_of_the_logits(fake_oracle, kit, monkeypatch):
    oracle = fake_oracle(100, classes=3)
    attacker = prepared(oracle, kit(), (Fixed(1.0, 0.0, -2.0), Fixed(0.0, 0.5, 1.0)), batch=8)
    descended = []
    monkeypatch.setattr(attacker.synthesiser, "descend", lambda loss: descended.append(loss.item()))
    attacker.generator_step(oracle, kit())
    assert descended == pytest.approx([-(1 + 0.5 + 3) / 3])


def test_queries_come_from_a_generator_in_evaluation_mode(fake_oracle, kit):
    modes = []
    oracle = fake_oracle(24, listen=lambda images: modes.append("asked"))
    attacker, lent = DualStudents(batch=8, clone_steps=3), kit()
    attacker.prepare(oracle, lent)
    attacker.synthesiser.network.register_forward_pre_hook(
        lambda network, inputs: modes.append(network.training)
    )
    attacker.resume(oracle, lent)
    assert modes == [True, *[False, "asked"] * 3]


def test_both_students_learn_and_the_first_ones_average_is_handed_in(fake_oracle, kit):
    """With a step of one and constant slopes the weights are a line, and averages worked out."""
    oracle = fake_oracle(10**6, classes=3)
    students = (Fixed(9.0, 9.0, 9.0), Fixed(-9.0, -9.0, -9.0))
    attacker = prepared(oracle, kit(), students, clone_steps=1, averaging=0.9)
    handed_in, first = [], []
    for step in range(1, 31):
        with torch.no_grad():
            students[0].logits.copy_(torch.full((3,), float(step)))
        attacker.trainer.optimizer.zero_grad()
        attacker.trainer.optimizer.step = lambda: None
        attacker.learn(torch.zeros(2, 1, 8, 8), torch.full((2, 3), 1 / 3))
        if step % 10 == 0:
            handed_in.append(float(attacker.clone.logits[0]))
            first.append(float(step))
    # the first averages are plain means of what the student was after 10, 20 and 30 iterations
    assert first == [10, 20, 30]
    assert handed_in == pytest.approx([10, 15, 20])
    assert isinstance(attacker.clone, Fixed)


def test_answers_draw_both_students_to_the_victim(fake_oracle, kit):
    def answers(images):
        return torch.tensor([0.7, 0.2, 0.1]).repeat(len(images), 1)

    students = (Fixed(-1.0, 0.0, 1.0), Fixed(1.0, 2.0, 0.0))
    oracle = fake_oracle(4_000, answers, classes=3)
    attacker = prepared(oracle, kit(), students, batch=20, clone_rate=0.03)
    attacker.resume(oracle, kit())
    for student in students:
        assert student.logits.softmax(0).tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.05)
