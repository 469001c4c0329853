"""Undefended victims: trained once from data, network, recipe and seed, then recalled."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch

from envs.data.images import Splits
from envs.nets import registry
from envs.nets.staged import Staged
from envs.nets.weights import file_digest
from envs.seeding import Streams
from envs.training.checkpoints import JSON, Stored, remember
from envs.training.evaluation import evaluate
from envs.training.loop import fit
from envs.training.recipes import Recipe

_KIND = "victim"


@dataclass(frozen=True, slots=True)
class VictimTraining:
    """What a victim is made from, besides its data.

    Args:
        network: registered name.
        params: the network's own.
        recipe: how it is trained.
        seed: of its starting weights and batches.
    """

    network: str
    recipe: Recipe
    params: Mapping[str, JSON] = field(default_factory=dict)
    seed: int = 0

    def key(self, splits: Splits) -> dict[str, JSON]:
        """Return everything that bears on the trained weights, as JSON.

        Raises:
            DataMissing: the weights it starts from are not there.
        """
        start = registry.start_of(self.network, self.params)
        return {
            **({"start": file_digest(start.path())} if start is not None else {}),
            "data": splits.fingerprint,
            "network": self.network,
            "params": dict(self.params),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "torch": torch.__version__,
        }


def train_victim(
    splits: Splits,
    spec: VictimTraining,
    *,
    device: torch.device,
    report: Callable[[str], None] = lambda line: None,
) -> Staged:
    """Train an undefended victim on the training split, or recall it from the cache.

    The last epoch is kept: nothing is chosen by looking at held-out images.

    Args:
        splits: on the device.
        spec: what to make.
        device: where to train.
        report: takes a line of progress now and then.

    Raises:
        ArenaError: training diverged.
        UnknownName, ScenarioError: no such network, or it does not take these images.
    """
    streams = Streams(spec.seed).child("victim")
    network = registry.build(
        spec.network,
        num_classes=splits.num_classes,
        image_shape=splits.image_shape,
        mean=splits.mean,
        std=splits.std,
        # drawn on the host, so that a seed means the same start on every device
        generator=streams.torch("weights"),
        **spec.params,
    ).to(device)

    def make() -> Stored:
        epochs = spec.recipe.epochs

        def tell(epoch: int, loss: float) -> None:
            report(f"training victim {spec.network}: epoch {epoch} of {epochs}, loss {loss:.3f}")

        fit(
            network,
            splits.train.pixels,
            splits.train.labels,
            spec.recipe,
            generator=streams.torch("batches", device),
            on_epoch=tell,
        )
        held_out = splits.validation
        accuracy = evaluate(network, held_out.pixels, held_out.labels)
        return Stored(network.state_dict(), {"validation_accuracy": accuracy})

    stored, _ = remember(_KIND, spec.key(splits), make, device=device, like=network.state_dict())
    network.load_state_dict(stored.state)
    return network.eval()
