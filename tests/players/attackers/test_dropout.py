"""A clone with dropout is the same whatever else the process drew: its chance is the attacker's."""

import pytest
import torch

from agents.attackers.dfms_hl import DFMSHL
from agents.attackers.disguide import DisGUIDE
from agents.attackers.dual_students import DualStudents
from agents.attackers.knockoff import Knockoff
from agents.attackers.maze import MAZE
from agents.attackers.noise import Noise
from agents.attackers.s4l import S4L

ATTACKERS = {
    "noise": lambda: Noise(batch=16),
    "knockoff by classes": lambda: Knockoff(policy="adaptive", request=16, epochs=1),
    "s4l": lambda: S4L(epochs=1, pretraining=1),
    "disguide": lambda: DisGUIDE(batch=16, replays=1, capacity=50),
    "dual-students": lambda: DualStudents(batch=16),
    "maze": lambda: MAZE(batch=8, directions=1, clone_steps=2, replays=1),
    "dfms-hl": lambda: DFMSHL(
        gan_epochs=0, clone_epochs=1, diversity_epochs=0, pool=64, initial=16, validation=8
    ),
}


@pytest.mark.parametrize("name", ATTACKERS)
def test_two_games_of_one_seed_give_one_clone(fake_oracle, posteriors, with_pool, name):
    def clone(shared):
        attacker = ATTACKERS[name]()
        kit = with_pool(clone="mobilenetv2-small", dropout=0.2)
        torch.manual_seed(shared)
        before = torch.get_rng_state()
        attacker.attack(fake_oracle(100, posteriors), kit)
        assert torch.equal(torch.get_rng_state(), before)
        return attacker.clone.state_dict()

    one, other = clone(1), clone(2)
    assert all(torch.equal(weights, other[key]) for key, weights in one.items())


@pytest.mark.parametrize("name", ["noise", "disguide", "s4l"])
def test_dropout_is_drawn_at_all(fake_oracle, posteriors, with_pool, name):
    def clone(dropout):
        attacker = ATTACKERS[name]()
        kit = with_pool(clone="mobilenetv2-small", dropout=dropout)
        attacker.attack(fake_oracle(100, posteriors), kit)
        return [*attacker.clone.parameters()]

    assert not all(torch.equal(a, b) for a, b in zip(clone(0.2), clone(0.5), strict=True))
