"""Clones are trained in bfloat16 where the recipe says it, whatever loss an attack has."""

import pytest
import torch

from agents.attackers.e3 import E3
from agents.attackers.knockoff import Knockoff
from agents.attackers.s4l import S4L


def weights(clone):
    return torch.cat([p.detach().flatten() for p in clone.parameters()])


@pytest.mark.parametrize("attack", [Knockoff, E3, S4L])
def test_the_recipe_in_bfloat16_trains_nearly_the_same_clone(
    attack, fake_oracle, posteriors, with_pool
):
    clones = []
    for recipe in ("grad", "grad-bf16"):
        attacker = attack(recipe=recipe, epochs=2)
        attacker.attack(fake_oracle(50, posteriors), with_pool())
        clones.append(weights(attacker.clone))
    exact, quick = clones
    assert not torch.equal(exact, quick)
    assert torch.allclose(exact, quick, atol=0.05)
    assert quick.dtype == torch.float32
