"""MISLEADER: an ensemble of distilled networks, each useful and each hard to copy."""

from collections.abc import Sequence

from envs.data.strong_augment import strong_augment
from envs.defences.base import Defence
from envs.defences.harden_kit import HardenKit
from envs.defences.surrogate import like_victim, remembered, require_network
from envs.errors import ScenarioError
from envs.nets.ensemble import Ensemble
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.ranges import Amount, Count, Natural, Positive, Share
from envs.training.checkpoint_file import JSON
from envs.training.loop import fit, steps_of
from envs.training.misleading_distillation import Distillation, Images, MisleadingLoss
from envs.training.ood_sources import Material
from envs.training.recipes import Recipe, recipe_for
from envs.victim.victim import Victim

_PUBLISHED = ("resnet18-8x", "mobilenetv2", "densenet121")
_SMALL = ("resnet10-half", "mobilenetv2-small", "densenet-small")
_CLIP = 5.0
_COPY_RATE = 0.1  # of the network's learning rate, for the copy


class Misleader(Defence):
    """Serve the mean posterior of networks that are distilled from the victim to mislead a copy.

    Beside each network an inner attacker of its architecture learns to answer as it does. The
    network learns the victim's answers and the labels, and to keep the inner attacker's answers to
    augmented images as far from its own as it can. Which queries are whose is not asked.

    Hard labels: the argmax of the ensemble, for everybody. There is no `preserve_top1`: the victim
    itself is not asked any more. It is on or off.

    Args:
        misleading: factor on the weights below; 0 is the control that only distils.
        members: networks by name; by default the published ones for images of at least 32 pixels,
            and small ones of the same families below.
        weights: lambda of each member, the weight of the inner attacker's distance.
        temperatures: of each member's distillation.
        shares: alpha, the victim's share against the labels' in each member's distillation.
        epochs: of each member's training.
        updates: of the inner attacker at each step.

    Raises:
        ValueError: a value outside its range, or lists of unequal length.
        UnknownName: no such network.

    Notes:
        Published for CIFAR-10: the members of large images, weights, temperatures and shares, 261
        epochs at a batch of 256, SGD at 0.1 and 0.01 for the attacker, gradients clipped to 5. Ours
        differs: rate and batch are those of the recipe for the image size, the attacker's rate a
        tenth of that, and epochs ten, for small data. One update of the attacker a step is
        what the released code comes to, which adds up five equal gradients and steps once. The last
        epoch is served, where the code keeps the best on the test images. Augmented images do
        not enter the batch statistics that serving normalises by. The order of the colour changes
        is fixed. The released attack takes the logarithm-softmax of these probabilities, which
        flattens what it learns from; attackers here get the posterior itself.

    Source:
        Cheng et al. 2025, arXiv:2506.02362, and its released code.
    """

    interpolates = False

    def __init__(
        self,
        *,
        misleading: Amount = 1.0,
        members: Sequence[str] | None = None,
        weights: Sequence[Amount] = (0.001, 0.05, 0.01),
        temperatures: Sequence[Positive] = (6.0, 4.0, 2.0),
        shares: Sequence[Share] = (0.3, 0.9, 0.3),
        epochs: Natural = 10,
        updates: Count = 1,
    ) -> None:
        count = len(weights) if members is None else len(members)
        lengths = (len(weights), len(temperatures), len(shares))
        if count < 1 or lengths != (count,) * 3:
            raise ValueError(
                f"expected a weight, a temperature and a share for each of {count} members, "
                f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"
            )
        if members is None and count != len(_PUBLISHED):
            raise ValueError(f"expected members by name where they are not {len(_PUBLISHED)}")
        if min(misleading, *weights) < 0 or min(temperatures) <= 0 or updates < 1:
            raise ValueError(
                f"expected weights of at least 0, temperatures above 0 and an update or more, got "
                f"{misleading=}, {weights=}, {temperatures=}, {updates=}"
            )
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"expected shares from 0 to 1, got {shares}")
        self.members = None if members is None else tuple(map(require_network, members))
        self.terms = tuple(
            Distillation(misleading * weight, temperature, share)
            for weight, temperature, share in zip(weights, temperatures, shares, strict=True)
        )
        self.epochs, self.updates = epochs, updates

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Train the members, or recall them, and put them in the victim's place."""
        if victim.num_exits > 1:
            raise ScenarioError(
                "misleader answers by other networks, without the exits that are there already; "
                "leave out one of the two defences"
            )
        plan = victim.network.backbone.plan
        names = self.members or (_PUBLISHED if plan.size >= 32 else _SMALL)
        members = [
            self._trained(number, name, terms, victim=victim, kit=kit)
            for number, (name, terms) in enumerate(zip(names, self.terms, strict=True))
        ]
        ensemble = MultiExit(Ensemble(plan, members))
        return Victim(ensemble, execution=victim.execution, chunk=victim.chunk)

    def _trained(
        self, number: int, name: str, terms: Distillation, *, victim: Victim, kit: HardenKit
    ) -> Staged:
        streams = kit.streams.child(f"misleader/{number}")
        network, copy = (
            like_victim(victim, streams.torch(whose, victim.device), architecture=name)
            for whose in ("weights", "copy")
        )
        recipe = recipe_for(victim.image_shape).with_changes(epochs=self.epochs, clip_norm=_CLIP)
        train_set = kit.data.train.to(victim.device)

        def train(fresh: Staged) -> None:
            loss = MisleadingLoss(
                terms,
                teacher=victim.network,
                copy=copy,
                draw=_asked(Material(train_set, streams.torch("asked", victim.device))),
                recipe=_gentler(recipe),
                steps=steps_of(len(train_set), recipe),
                updates=self.updates,
            )
            order = streams.torch("order", victim.device)
            fit(fresh, train_set.pixels, train_set.labels, recipe, generator=order, loss=loss)

        spec: dict[str, JSON] = {
            "recipe": recipe.key(), "number": number, "updates": self.updates,
            "terms": [terms.misleading, terms.temperature, terms.share],
        }  # fmt: skip
        return remembered("misleader", spec, network, train, victim=victim, kit=kit)


def _gentler(recipe: Recipe) -> Recipe:
    return recipe.with_changes(learning_rate=_COPY_RATE * recipe.learning_rate)


def _asked(material: Material) -> Images:
    """Draw what the inner attacker asks: the owner's images, strongly augmented."""
    return lambda count: strong_augment(material.pick(material.train, count), material.generator)
