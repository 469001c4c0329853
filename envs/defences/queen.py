"""QUEEN: answers that turn a clone's gradient round once an account knows too much of a class."""

import torch
from torch import Tensor, nn

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.defences.needs import Need
from envs.defences.query_coverage import Coverage, region_of
from envs.defences.randomness import Chance
from envs.defences.simplex import onto_simplex
from envs.defences.surrogate import Surrogate, digest, like_victim, remembered, require_network
from envs.exits.random_rules import Seeding
from envs.nets.exit_cost import backbone_macs, macs_of
from envs.nets.staged import Staged
from envs.ranges import Amount, Count, Natural, Positive
from envs.training.checkpoint_file import JSON, Stored
from envs.training.checkpoints import remember
from envs.training.feature_map import plane_map, train_map
from envs.training.linear_probe import embedded
from envs.training.loop import fit
from envs.training.recipes import recipe_for
from envs.victim.victim import Victim


class Queen(PosteriorDefence):
    """Watch how much of each class an account has covered, and reverse its answers beyond that.

    Features of the victim are mapped to the plane, where a class has a centre and a sensitive
    region round it. A query there that repeats no earlier one of the account is recorded, and adds
    to the class's cumulative sensitivity. Once that exceeds `limit`, such a query gets
    2p - y, set to 0 where negative and normalised, with y the victim's answer and p the mean
    answer of shadow models, which stand for a clone that has learned little: the gradient of a
    clone that answers p is then that of the true answer turned round. All other answers
    come from features that are moved towards the farthest class centre while the label stays.

    Hard labels: the victim's, but for reversed answers; with `preserve_top1` "on" or "label_only"
    the victim's always.

    Args:
        spacing: r: a query within it of a recorded one is no new one. In units of the map.
        limit: theta, of the cumulative sensitivity of one class and one account.
        reach: beta: radius of a sensitive region, in mean distances of the class from its centre.
        alpha: how sharply the sensitivity of a query falls at the region's border.
        shadows: shadow models that are trained.
        asked: how many of them answer for p, drawn for each image; at most `shadows`.
        shadow_network: their network, by name; the victim's if not given.
        shadow_epochs: of each shadow's training on the victim's own images and labels.
        map_epochs: of the map's training.
        map_batch: features per step of it.
        step: by which a feature is moved towards the farthest centre, in units of the features.
        steps: most of these.
        randomness: which shadows answer: drawn anew, or a keyed function of the image ("hash").
        preserve_top1: "off" (as published), "on" or "label_only".

    Raises:
        ValueError: a value outside its range.
        UnknownName: no such network.

    Notes:
        Published values: spacing 0.005, limit 0.2, reach, alpha, 5 of 10 shadows of one epoch each
        (VGG11-BN for a VGG16-BN), 100 epochs of the map at a batch of 10,000, 20 steps of 0.05.
        Ours differs: each account has a record of its own, where the released code has one for all,
        so that an attacker's queries do not reverse benign users' answers; shadow models answer
        by their softmax, where the code averages logits and takes them for probabilities; the
        map's batch is 256, because 10,000 leave one step an epoch on small data; shadows have the
        victim's architecture and the recipe of the image size; which of them answer is keyed by
        the image, so that repeats tell nothing; the answer nearest to 2p - y in angle is computed
        in closed form instead of by a solver. The map's activation is not
        known: it is tanh here.
        Features are computed by a second pass of the victim here, which `overhead_macs` counts; a
        server that keeps those of its first pass saves that. It also counts the shadows' passes,
        which only reversed answers need.

    Source:
        Query Unlearning Against Model Extraction, arXiv:2407.01251, and its released code.
    """

    def __init__(
        self,
        *,
        spacing: Positive = 0.005,
        limit: Amount = 0.2,
        reach: Positive = 1.0,
        alpha: Positive = 1.0,
        shadows: Count = 10,
        asked: Count = 5,
        shadow_network: str | None = None,
        shadow_epochs: Natural = 1,
        map_epochs: Natural = 100,
        map_batch: Count = 256,
        step: Amount = 0.05,
        steps: Natural = 20,
        randomness: Seeding = "hash",
        preserve_top1: Preserve = "off",
    ) -> None:
        if min(spacing, reach, alpha) <= 0 or min(limit, step) < 0:
            raise ValueError(
                f"expected spacing, reach and alpha above 0, limit and step of at least 0, got "
                f"{spacing=}, {reach=}, {alpha=}, {limit=}, {step=}"
            )
        if not 1 <= asked <= shadows:
            raise ValueError(f"expected 1 to {shadows} of the shadows to be asked, got {asked}")
        if shadow_network is not None:
            require_network(shadow_network)
        super().__init__(epsilon=2.0, preserve_top1=preserve_top1)
        self.spacing, self.limit, self.reach, self.alpha = spacing, limit, reach, alpha
        self.count, self.asked, self.shadow_network = shadows, asked, shadow_network
        self.shadow_epochs, self.map_epochs, self.map_batch = shadow_epochs, map_epochs, map_batch
        self.step, self.steps = step, steps
        self._chance = Chance(randomness)
        self._shadows: tuple[Surrogate, ...] = ()
        self._map: nn.Module | None = None
        self._accounts: dict[int, Coverage] = {}

    @property
    def needs(self) -> frozenset[Need]:
        """Shadows like the victim, unless they have an architecture of their own."""
        return frozenset({"another of its kind"}) if self.shadow_network is None else frozenset()

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Train map and shadows, or recall them, and find the classes' regions."""
        self._chance.take_key(kit, "queen")
        own = kit.data.train.to(victim.device)
        # a layer after this one may put another network in the victim's place
        backbone = self._backbone = victim.network.backbone
        features = embedded(backbone, own.pixels)
        self._map = self._trained_map(features, own.labels, kit)
        with torch.no_grad():
            points = self._map(features).double()
        classes = victim.num_classes
        self._centres, radii = region_of(points, own.labels, classes)
        self._radii = self.reach * radii
        # (K, width), what answers are moved towards
        self._far = region_of(features, own.labels, classes)[0]
        self._shadows = tuple(self._trained_shadow(n, victim, kit) for n in range(self.count))
        macs = backbone_macs(backbone)
        head = macs[-1] - macs[-2]
        mapped = macs_of(self._map, (features.shape[1],))
        self.overhead_macs = (
            macs[-1] + mapped + self.steps * head + self.asked * self._shadows[0].macs
        )
        self._accounts = {}
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Reverse what is new in a class that the account covers; move all other answers."""
        assert self._map is not None, "harden comes first"
        features = embedded(self._backbone, serving.images)
        labels = clean.argmax(1)
        account = self._accounts.setdefault(
            serving.account,
            Coverage(
                self._centres, self._radii,
                spacing=self.spacing, limit=self.limit, alpha=self.alpha,
            ),
        )  # fmt: skip
        reverse = account.take(self._map(features).double(), labels)
        served = self._moved(features, clean)
        # drawn for all, so that who is reversed does not shift the stream
        luck = self._chance.uniforms(serving.images, self.count, serving.generator)
        if bool(reverse.any()):
            believed = self._believed(serving.images[reverse], luck[reverse])
            served[reverse] = reversed_answer(clean[reverse], believed)
        return torch.lerp(clean, served, serving.strength)

    def _moved(self, features: Tensor, clean: Tensor) -> Tensor:
        """Answer from features that are moved towards the farthest centre, the label kept."""
        labels = clean.argmax(1)
        direction = away(features, self._far)
        kept = self._backbone.classifier(features)
        # an early exit may have answered otherwise than the last; then its answer stays
        going = kept.argmax(1) == labels
        served = torch.where(going[:, None], kept.double().softmax(1), clean)
        for number in range(1, self.steps + 1):
            logits = self._backbone.classifier(features + number * self.step * direction)
            going = going & (logits.argmax(1) == labels)
            served = torch.where(going[:, None], logits.double().softmax(1), served)
        return served

    def _believed(self, images: Tensor, luck: Tensor) -> Tensor:
        """Return the mean answer of the drawn shadows, (n, K) float64; each runs its own images."""
        drawn = torch.zeros_like(luck, dtype=torch.bool)
        drawn.scatter_(1, luck.argsort(1)[:, : self.asked], True)
        total = torch.zeros(len(images), len(self._far), dtype=torch.float64, device=images.device)
        for column, shadow in zip(drawn.T, self._shadows, strict=True):
            if bool(column.any()):
                total[column] += shadow.posteriors(images[column])
        return total / self.asked

    def _trained_map(self, features: Tensor, labels: Tensor, kit: HardenKit) -> nn.Module:
        network = plane_map(features.shape[1], kit.streams.torch("queen/map", features.device))

        def make() -> Stored:
            kit.report("training: map of the features")
            order = kit.streams.torch("queen/order", features.device)
            train_map(
                network, features, labels,
                epochs=self.map_epochs, batch=self.map_batch, generator=order,
            )  # fmt: skip
            return Stored(network.state_dict())

        stored, _ = remember(
            "feature-map",
            {
                "features": digest({"features": features, "labels": labels}),
                "epochs": self.map_epochs,
                "batch": self.map_batch,
                "seed": kit.streams.seed,
            },
            make,
            device=features.device,
            like=network.state_dict(),
        )
        network.load_state_dict(stored.state)
        return network.requires_grad_(False).eval()

    def _trained_shadow(self, number: int, victim: Victim, kit: HardenKit) -> Surrogate:
        weights = kit.streams.torch(f"queen/shadow {number}", victim.device)
        network = like_victim(victim, weights, architecture=self.shadow_network)
        recipe = recipe_for(victim.image_shape).with_changes(epochs=self.shadow_epochs)
        own = kit.data.train.to(victim.device)

        def train(fresh: Staged) -> None:
            order = kit.streams.torch(f"queen/shadow {number}/order", victim.device)
            fit(fresh, own.pixels, own.labels, recipe, generator=order)

        spec: dict[str, JSON] = {"recipe": recipe.key(), "number": number}
        return Surrogate(remembered("shadow", spec, network, train, victim=victim, kit=kit))


def reversed_answer(clean: Tensor, believed: Tensor) -> Tensor:
    """Return the answer that turns the gradient of a clone round which answers `believed`.

    Cross-entropy moves the logits of a clone that answers p along p - y. Served 2p - y, it moves
    along -(p - y). Of all answers the one of largest cosine with 2p - y is its positive part,
    normalised.

    Args:
        clean: (n, K) float64 on the simplex, y.
        believed: (n, K) float64 on the simplex, p.
    """
    return onto_simplex(2 * believed - clean, clean)


def away(features: Tensor, centres: Tensor) -> Tensor:
    """Return unit vectors, (n, width), from features to the farthest of (K, width) centres."""
    apart = torch.cdist(features, centres).nan_to_num(-1)
    ahead: Tensor = nn.functional.normalize(centres[apart.argmax(1)] - features)
    return ahead
