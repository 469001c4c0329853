"""Takes a known perturbation off the answers by a network that learned it on shadow models."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from agents.base import Kit, OracleWrapper
from agents.learning.transfer_set import branch, recipe_for
from agents.oracle_wrappers.forwarding import Restored
from agents.oracle_wrappers.perturbation_inverses import SIMULATIONS, keep_top, simulate
from envs.data.images import ImageSet
from envs.errors import PlayerError, ScenarioError, UnknownName
from envs.nets.init import materialise
from envs.oracle import Oracle
from envs.ranges import Count, Natural, Positive
from envs.training.evaluation import predict
from envs.training.loop import fit
from envs.training.recipes import Recipe

# classes up to which a restorer has these two widths
_WIDTHS = {10: (128, 64), 43: (512, 256), 100: (1024, 512), 1_000_000: (2048, 1024)}


class DDAE(OracleWrapper):
    """Restores answers by a network trained on pairs of clean and perturbed posteriors.

    The pairs cost no query: shadow models of the attacker's answer images of its pool, and the
    defence that is known or guessed to be in force is applied to what they say.

    Args:
        defence: "randp", "reverse-sigmoid" or "p-poison".
        strength: its L1 budget, or the height of its wave.
        preserves_top1: whether the defence keeps the top class; the simulation does so too.
        clean: "shadows" for posteriors of shadow models, "dirichlet" for drawn ones.
        shadows: models, each trained on as many random classes of the pool as the victim has.
        shadow_steps: of the training of each, rounded up to whole epochs.
        pairs: of posteriors, a tenth of which is held out to tell the error.
        epochs: of the restorer.
        prior: Dirichlet concentration of drawn posteriors.

    Notes:
        Ours differs: which defence it is has to be said, where the paper trains a detector; shadow
        models are of the clone's kind and start afresh (AlexNets with ImageNet weights in
        ModelGuard's suite); 50,000 pairs, 40 epochs and Adam instead of a million, 200 and SGD;
        no activation before the restorer's softmax; and it restores by its running statistics,
        where the suite normalises by those of all served answers. Drawn posteriors lie around
        nothing, where the suite's "D-DAE+" draws them around the victim's undefended answers, which
        no attacker has.

    Source:
        Chen et al. 2023, D-DAE: defense-penetrating model extraction attacks, IEEE S&P, in the
        form of Tang et al. 2024, ModelGuard, USENIX Security.
    """

    requires = frozenset({"soft-labels", "pool"})

    def __init__(
        self,
        *,
        defence: str = "randp",
        strength: float = 0.5,
        preserves_top1: bool = True,
        clean: Literal["shadows", "dirichlet"] = "shadows",
        shadows: Count = 20,
        shadow_steps: Natural = 200,
        pairs: Count = 50_000,
        epochs: Natural = 40,
        prior: Positive = 0.2,
    ) -> None:
        if defence not in SIMULATIONS:
            raise UnknownName("defence to restore from", defence, SIMULATIONS)
        if clean not in ("shadows", "dirichlet"):
            raise ScenarioError(f"expected clean 'shadows' or 'dirichlet', got '{clean}'")
        if not 0 < strength < 2 or pairs < 20:
            raise ScenarioError(
                f"expected strength between 0 and 2 and pairs of at least 20, got {strength} and "
                f"{pairs}"
            )
        self._serve = keep_top(SIMULATIONS[defence]) if preserves_top1 else SIMULATIONS[defence]
        self._defence, self._strength, self._clean = defence, strength, clean
        self._shadows, self._shadow_steps = shadows, shadow_steps
        self._pairs, self._epochs, self._prior = pairs, epochs, prior
        if clean == "dirichlet":
            self.requires = frozenset({"soft-labels"})

    def wrap(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Return an oracle whose answers go through a restorer that was just trained."""
        generator = branch(kit.generator)
        classes = oracle.threat.num_classes
        if self._clean == "shadows":
            clean = self._of_shadows(classes, kit, generator)
        else:
            clean, _ = simulate(
                self._pairs,
                classes,
                defence=self._defence,
                strength=self._strength,
                prior=self._prior,
                generator=generator,
            )
        served = self._serve(clean, self._strength, generator)
        restorer, error = learned(served.float(), clean.float(), self._epochs, generator)
        kit.report(restoration_error=error)
        return Restored(oracle, restorer.restore)

    def _of_shadows(self, classes: int, kit: Kit, generator: torch.Generator) -> Tensor:
        """Return (pairs, K) float64 posteriors that shadow models give images of the pool."""
        pool = kit.pool.to(kit.device)
        present = pool.labels.unique()
        if len(present) < classes:
            raise PlayerError(
                f"d-dae's shadow models learn {classes} classes of the pool, and '{pool.name}' has "
                f'{len(present)}; take a pool with more, or clean = "dirichlet"'
            )
        fresh = kit.new_clone().to(kit.device)
        each = -(-self._pairs // self._shadows)
        told = []
        for _ in range(self._shadows):
            order = torch.randperm(len(present), generator=generator, device=generator.device)
            shadow = self._shadow(fresh, pool, present[order[:classes]], generator)
            drawn = torch.randint(len(pool), (each,), generator=generator, device=generator.device)
            told.append(predict(shadow, pool.pixels[drawn]).double().softmax(1))
        return torch.cat(told)[: self._pairs]

    def _shadow(
        self, fresh: nn.Module, pool: ImageSet, chosen: Tensor, generator: torch.Generator
    ) -> nn.Module:
        """Train a copy of a fresh clone on some classes of the pool, numbered as they come."""
        shadow = copy.deepcopy(fresh)
        matches = pool.labels[:, None] == chosen  # (n, K)
        inside = matches.any(1)
        labels = matches[inside].int().argmax(1)
        recipe = recipe_for(None, pool.image_shape)
        steps = -(-len(labels) // recipe.batch)
        recipe = recipe.with_changes(epochs=-(-self._shadow_steps // steps))
        fit(shadow, pool.pixels[inside], labels, recipe, generator=generator)
        return shadow


class Restorer(nn.Module):
    """Maps (n, K) served answers to (n, K) restored ones on the simplex.

    Args:
        classes: K.
        generator: draws the weights; the network lands on its device.
    """

    def __init__(self, classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        wide, narrow = next(widths for most, widths in _WIDTHS.items() if classes <= most)
        with torch.device("meta"):
            self.layers = nn.Sequential(
                nn.Linear(classes, wide),
                nn.BatchNorm1d(wide),
                nn.LeakyReLU(0.2),
                nn.Linear(wide, narrow),
                nn.BatchNorm1d(narrow),
                nn.LeakyReLU(0.2),
                nn.Linear(narrow, classes),
            )
        materialise(self, generator=generator)

    def forward(self, answers: Tensor) -> Tensor:
        """Return the restored answers, with their gradients."""
        logits: Tensor = self.layers(answers)
        return logits.softmax(1)

    @torch.no_grad()
    def restore(self, answers: Tensor) -> Tensor:
        """Restore (n, K) answers, of their dtype and where they lie."""
        where = next(self.parameters()).device
        restored: Tensor = self(answers.float().to(where)).to(answers)
        return restored


def learned(
    served: Tensor, clean: Tensor, epochs: int, generator: torch.Generator
) -> tuple[Restorer, float]:
    """Train a restorer on pairs.

    Args:
        served: (n, K) float32 what a defence makes of them.
        clean: (n, K) float32 posteriors.
        epochs: over nine tenths of the pairs.
        generator: weights and order.

    Returns:
        The restorer in evaluation mode, and its mean L1 error on the last tenth.
    """
    held = max(1, len(clean) // 10)
    restorer = Restorer(clean.shape[1], generator=generator)
    recipe = Recipe(
        epochs=epochs, batch=1024, optimiser="adam", learning_rate=3e-3, weight_decay=0.0
    )
    fit(restorer, served[:-held], clean[:-held], recipe, generator=generator, loss=_l1)
    error = (restorer.eval().restore(served[-held:]) - clean[-held:]).abs().sum(1).mean()
    return restorer, float(error)


def _l1(network: nn.Module, answers: Tensor, clean: Tensor) -> Tensor:
    distance: Tensor = (network(answers) - clean).abs().sum(1).mean()
    return distance
