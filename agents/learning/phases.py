"""How long the phases of DFMS-HL are, for a size of images and a budget."""

import math
from dataclasses import dataclass, replace

_LEAST_POOL, _LEAST_EPOCHS = 16, 5


@dataclass(frozen=True, slots=True)
class Phases:
    """How much of everything; the defaults are the published ones for CIFAR-10 without data.

    Attributes:
        pool: proxy images.
        gan_epochs: over the pool, before any query.
        initial: images labelled for the first clone, generated ones among them.
        clone_epochs: over those, for the first clone and again for the second.
        diversity_epochs: over the pool, generator and discriminator alone.
        alternating_epochs: over the pool, with one query an image.
        validation: generated images labelled to choose among the averages.
    """

    pool: int = 50_000
    gan_epochs: int = 200
    initial: int = 50_000
    clone_epochs: int = 200
    diversity_epochs: int = 100
    alternating_epochs: int = 150
    validation: int = 20_000

    @classmethod
    def of(cls, image_shape: tuple[int, int, int]) -> "Phases":
        """Return the phases for images of a size."""
        side = min(image_shape[1:])
        if side >= 30:
            return cls()
        pool = 5_000 if side >= 15 else 2_000
        return cls(pool, 50, pool, 50, 25, 50, pool // 2)

    def within(self, budget: int, *, drawn: float) -> "Phases":
        """Scale the phases to a budget.

        What is labelled, and the pool with it, shrinks in proportion; epochs of the generator by
        the root. The alternating phase gets what the others leave, so that its epochs may differ.
        """
        others = round(self.initial * (1 + drawn)) + self.validation
        scale = min(1.0, budget / (others + self.pool * self.alternating_epochs))

        def fewer(epochs: int) -> int:
            return min(epochs, max(_LEAST_EPOCHS, round(epochs * math.sqrt(scale))))

        return replace(
            self,
            pool=max(_LEAST_POOL, int(self.pool * scale)),
            gan_epochs=fewer(self.gan_epochs),
            initial=int(self.initial * scale),
            diversity_epochs=fewer(self.diversity_epochs),
            validation=int(self.validation * scale),
        )
