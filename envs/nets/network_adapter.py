"""A network of others as one of the game's: its answers as logits, its layers as stages."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from envs.errors import ScenarioError, one_line
from envs.loading.imports import is_model_file
from envs.nets import user_networks
from envs.nets.staged import Plan, Staged

_PROBES = 2  # images that a network is tried out with; one alone would hide a fixed batch
_ON_SIMPLEX = 1e-4
_LEAST = 1e-30  # below any probability that float32 tells from 0


class AsLogits(nn.Module):
    """Answers (n, K) logits where a network answers those, an object that has them, or posteriors.

    Args:
        body: the network.

    Attributes:
        takes_log: whether it answers posteriors, whose logarithm serves as logits.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.takes_log = False

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, K) logits."""
        answer: Tensor | Mapping[str, Tensor] = self.body(images)
        if isinstance(answer, Mapping):  # as the models of Hugging Face answer
            answer = answer["logits"]
        return answer.clamp_min(_LEAST).log() if self.takes_log else answer


class OwnNetwork(Staged):
    """A network of others, in one stage until it is cut.

    Args:
        plan: what it is built for.
        body: maps normalised images to logits or posteriors.
        name: what it is called in logs: a name of its own for each content.
        is_drawable: see `Staged`.

    Raises:
        ScenarioError: it does not take such images, or does not answer as many classes.
    """

    def __init__(self, plan: Plan, body: nn.Module, *, name: str, is_drawable: bool = True) -> None:
        adapted = AsLogits(body)
        super().__init__(
            plan,
            [adapted],
            widths=(plan.num_classes,),
            neck=nn.Identity(),
            classifier=nn.Identity(),
            family=None,
            depth=None,
            width=None,
        )
        self.architecture, self.is_drawable = name, is_drawable
        self.head_stages = ()
        self.try_out()

    @property
    def adapted(self) -> AsLogits:
        """The network without the normalisation of its images."""
        first = self.stages[0]
        assert isinstance(first, nn.Sequential)
        found = first[1]
        assert isinstance(found, AsLogits)
        return found

    @torch.no_grad()
    def try_out(self) -> None:
        """Ask for a few images, to see whether it takes them and what it answers.

        Raises:
            ScenarioError: it does not take them, or answers no finite logits of the classes.
        """
        use, classes = self.plan.architecture, self.num_classes
        what = f"{classes} classes of {self.image_shape} images"
        try:
            answers: object = run(self, noise(self))
        except ScenarioError:
            raise
        except Exception as error:  # of the author's code
            raise ScenarioError(f"'{use}' does not fit {what}: {one_line(error)[:300]}") from error
        if not isinstance(answers, Tensor) or answers.ndim != 2 or not answers.is_floating_point():
            got = type(answers).__name__
            if isinstance(answers, Tensor):
                got = f"{tuple(answers.shape)} {answers.dtype}"
            raise ScenarioError(f"'{use}': expected (n, {classes}) logits for n images, got {got}")
        if answers.shape != (_PROBES, classes):
            raise ScenarioError(
                f"'{use}' answers {tuple(answers.shape)} for {_PROBES} images, and the data has "
                f"{classes} classes; expected ({_PROBES}, {classes})"
            )
        if not bool(torch.isfinite(answers).all()):
            raise ScenarioError(f"'{use}' answers NaN or infinity to images of noise")
        self.adapted.takes_log = self.adapted.takes_log or _are_posteriors(answers)


def build_own(plan: Plan, *, generator: torch.Generator) -> OwnNetwork:
    """Build a network of others with the starting weights that its own code draws.

    Args:
        plan: names it, see `envs.nets.user_networks`, and its parameters.
        generator: gives the seed that torch's global generator has meanwhile; the network lands on
            its device.

    Raises:
        ScenarioError, UnknownName: it cannot be built, or does not fit images and classes.
    """
    use = plan.architecture
    drawn = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
    with torch.random.fork_rng(devices=[]):
        digest = user_networks.code_digest(use)  # before the seed: an import may draw once
        torch.manual_seed(int(drawn))
        body = user_networks.make(
            use, num_classes=plan.num_classes, image_shape=plan.image_shape, params=plan.params
        )
    short = user_networks.short_name(use)
    name = f"{short}-{digest[:8]}" if digest else short
    written = is_model_file(use)
    network = OwnNetwork(plan, body, name=name, is_drawable=not written)
    network.is_given = written
    return network.to(generator.device)


def noise(network: Staged) -> Tensor:
    """Return a few images of noise where a network lives."""
    place = next(network.buffers()).device
    generator = torch.Generator().manual_seed(0)
    return torch.rand((_PROBES, *network.image_shape), generator=generator).to(place)


def run(network: Staged, images: Tensor) -> object:
    """Run it in evaluation mode; its mode is as before afterwards."""
    was_training = network.training
    try:
        return network.eval()(images)
    finally:
        network.train(was_training)


def _are_posteriors(answers: Tensor) -> bool:
    sums = answers.double().sum(1)
    return bool((answers >= 0).all() and ((sums - 1).abs() <= _ON_SIMPLEX).all())
