"""Undefended victims: trained once from data, network, recipe and seed, or given with weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from envs.data.images import Normalisation, Splits
from envs.errors import ScenarioError
from envs.loading.imports import is_model_file
from envs.nets import registry
from envs.nets.adapter_stages import with_places
from envs.nets.given_weights import take_weights
from envs.nets.network_adapter import OwnNetwork
from envs.nets.staged import Staged
from envs.nets.user_networks import short_name
from envs.nets.weights import file_digest
from envs.seeding import Streams
from envs.training.checkpoint_file import JSON, Stored
from envs.training.checkpoints import remember
from envs.training.evaluation import evaluate
from envs.training.loop import fit
from envs.training.recipes import Recipe

_KIND = "victim"


@dataclass(frozen=True, slots=True)
class VictimTraining:
    """What a victim is made from, besides its data.

    Args:
        network: registered name, or that of a network of others.
        params: the network's own.
        recipe: how it is trained.
        seed: of its starting weights and batches.
        weights: a file of all its weights; then it is taken as it is, and not trained.
        normalise: mean and deviation that images are normalised by. Those of the training images if
            absent; where weights are given nothing, because such a network may do it itself.
        exits: layers of a network of others that exit heads may follow.
    """

    network: str
    recipe: Recipe
    params: Mapping[str, JSON] = field(default_factory=dict)
    seed: int = 0
    weights: Path | None = None
    normalise: Normalisation | None = None
    exits: tuple[str, ...] = ()

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
            "torch": torch.__version__,
            **self._own_key(),
        }

    def _own_key(self) -> dict[str, JSON]:
        """Return what tells networks of others, and given weights, apart."""
        key: dict[str, JSON] = {}
        if registry.is_own(self.network):
            key["network"] = short_name(self.network)
            key["code"] = registry.code_digest(self.network)
        if self.normalise is not None:
            key["normalise"] = self.normalise
        if self.exits:
            key["exits"] = self.exits
        if self.weights is not None:
            return key | {"weights": file_digest(self.weights)}
        if is_model_file(self.network):
            return key
        return key | {"recipe": self.recipe.key(), "seed": self.seed}


def train_victim(
    splits: Splits,
    spec: VictimTraining,
    *,
    device: torch.device,
    report: Callable[[str], None] = lambda line: None,
) -> Staged:
    """Train an undefended victim on the training split, or recall it from the cache.

    The last epoch is kept: nothing is chosen by looking at held-out images. A victim whose weights
    are given is read from their file instead.

    Args:
        splits: on the device.
        spec: what to make.
        device: where to train.
        report: takes a line of progress now and then.

    Raises:
        ArenaError: training diverged.
        DataMissing: given weights are not there, or are those of another network.
        UnknownName, ScenarioError: no such network, or it does not take these images.
    """
    streams = Streams(spec.seed).child("victim")
    mean, std = _normalisation(splits, spec)
    network = registry.build(
        spec.network,
        num_classes=splits.num_classes,
        image_shape=splits.image_shape,
        mean=mean,
        std=std,
        # drawn on the host, so that a seed means the same start on every device
        generator=streams.torch("weights"),
        **spec.params,
    ).to(device)
    if spec.weights is not None:
        take_weights(network, spec.weights)
        network.is_given = True
    elif not network.is_given:
        _train(network, splits, spec, device=device, report=report)
    return with_exits(network.eval(), spec.exits)


def with_exits(network: Staged, exits: Sequence[str]) -> Staged:
    """Give a network of others places for exit heads; without names it stays as it is.

    Raises:
        ScenarioError: one of ours, or layers that it does not have.
    """
    if not exits:
        return network
    if not isinstance(network, OwnNetwork):
        raise ScenarioError(
            f"exits: '{network.architecture}' has places of its own, one after each stage; leave "
            f"'exits' out, and choose among them with the defence's parameter 'exits'"
        )
    if is_model_file(network.plan.architecture):
        raise ScenarioError(
            f"exits: '{network.architecture}' has no layers by name; give the network's code and "
            f"weights instead"
        )
    return with_places(network, exits).eval()


def remarks(network: Staged, splits: Splits) -> list[str]:
    """Tell what users should know of a victim before it is attacked.

    Args:
        network: as `train_victim` returned it.
        splits: on its device.

    Returns:
        A line on the accuracy of one whose weights are given, and on exits that spare nothing.
    """
    lines = []
    if network.is_given:
        held_out = splits.validation
        right = evaluate(network, held_out.pixels, held_out.labels)
        chance = 1 / splits.num_classes
        doubt = "" if right > 2 * chance else (
            "; is 'normalise' what it was trained with, and are the classes in the data's order?"
        )  # fmt: skip
        lines.append(f"victim taken as it is: {right:.1%} of the validation images right{doubt}")
    if network.undivided:
        lines.append(
            f"the victim runs as a whole, so that early exits save no compute: {network.undivided}"
        )
    return lines


def _normalisation(splits: Splits, spec: VictimTraining) -> Normalisation:
    if spec.normalise is not None:
        return spec.normalise
    is_given = spec.weights is not None or is_model_file(spec.network)
    return ((0.0,), (1.0,)) if is_given else (splits.mean, splits.std)


def _train(
    network: Staged,
    splits: Splits,
    spec: VictimTraining,
    *,
    device: torch.device,
    report: Callable[[str], None],
) -> None:
    """Train a network in place, or give it the weights that were trained before."""

    def make() -> Stored:
        epochs, name = spec.recipe.epochs, short_name(spec.network)

        def tell(epoch: int, loss: float) -> None:
            report(f"training victim {name}: epoch {epoch} of {epochs}, loss {loss:.3f}")

        fit(
            network,
            splits.train.pixels,
            splits.train.labels,
            spec.recipe,
            generator=Streams(spec.seed).child("victim").torch("batches", device),
            on_epoch=tell,
        )
        held_out = splits.validation
        accuracy = evaluate(network, held_out.pixels, held_out.labels)
        return Stored(network.state_dict(), {"validation_accuracy": accuracy})

    stored, _ = remember(_KIND, spec.key(splits), make, device=device, like=network.state_dict())
    network.load_state_dict(stored.state)
