"""Clones are trained in bfloat16 where the recipe says it, whatever loss an attack has."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.e3 import E3
from agents.attackers.knockoff import Knockoff
from agents.attackers.s4l import S4L
from agents.learning import transfer_set


def weights(clone):
    return torch.cat([p.detach().flatten() for p in clone.parameters()])


@pytest.mark.parametrize("attack", [Knockoff, E3, S4L])
def test_the_recipe_in_bfloat16_trains_nearly_the_same_clone(
    attack, fake_oracle, posteriors, with_pool, monkeypatch
):
    clones, quick_one = [], transfer_set.RECIPES["short32"]
    exact_one = replace(quick_one, amp="none", amp_on_cpu=False)
    monkeypatch.setattr(transfer_set, "RECIPES", {"exact": exact_one, "short32": quick_one})
    for recipe in ("exact", "short32"):
        attacker = attack(recipe=recipe, epochs=2)
        attacker.attack(fake_oracle(50, posteriors), with_pool())
        clones.append(weights(attacker.clone))
    exact, quick = clones
    assert not torch.equal(exact, quick)
    assert torch.allclose(exact, quick, atol=0.05)
    assert quick.dtype == torch.float32
