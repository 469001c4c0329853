"""A victim elsewhere, of which nothing is known but its answers."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from arena.http.patient import PatientChannel
from arena.http.protocol import Array
from envs.errors import ArenaError
from envs.nets.exit_cost import ExitProfile
from envs.types import Labels
from envs.victim.victim import Victim, VictimAnswer

Kind = Literal["labels", "posteriors", "logits"]

_ON_SIMPLEX = 1e-4
_ROUNDED = 0.005  # how far two digits are off at most, and half floats with all classes
_MOST_OFF = 0.1


class RemoteVictim(Victim):
    """Asks a victim elsewhere.

    It has one exit as far as the game can tell, and no cost: `is_remote` says that neither is
    known.

    Args:
        line: asks it, and charges.
        name: what messages call it.
        num_classes: K.
        image_shape: (channels, height, width).
        labels: what the attacker sees of an answer.
        device: where answers are put.
    """

    is_remote = True

    def __init__(
        self,
        line: PatientChannel,
        name: str,
        *,
        num_classes: int,
        image_shape: tuple[int, int, int],
        labels: Labels,
        device: torch.device,
    ) -> None:
        # not that of Victim: there is no network
        self.line, self._name = line, name
        self._classes, self._shape = num_classes, image_shape
        self._labels, self._place = labels, device
        self._kind: Kind | None = None

    @property
    def num_exits(self) -> int:
        """One: where answers really leave is not known."""
        return 1

    @property
    def exit_names(self) -> tuple[str, ...]:
        """Names the one exit that there is for the game."""
        return ("unknown",)

    @property
    def num_classes(self) -> int:
        """Classes, K."""
        return self._classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self._shape

    @property
    def device(self) -> torch.device:
        """Where answers are put."""
        return self._place

    @property
    def profile(self) -> ExitProfile:
        """Raises ArenaError: what an answer costs is not known."""
        raise ArenaError(f"what an answer of {self._name} costs is not known")

    def close(self) -> None:
        """Close the connection."""
        self.line.close()

    def answer(
        self, images: Tensor, *, generator: torch.Generator, ood: bool = False
    ) -> VictimAnswer:
        """Ask for answers; see `Victim.answer`. Raises as `PatientChannel.ask`."""
        posteriors = self.posteriors(images)
        exits = torch.zeros(len(images), dtype=torch.int64, device=self._place)
        return VictimAnswer(posteriors, exits)

    def answer_each(
        self, images: Tensor, *, generator: torch.Generator, ood: bool = False
    ) -> tuple[VictimAnswer, Tensor]:
        """Ask image by image, and measure each; of the network and the server together."""
        answers, seconds = [], []
        for image in images.split(1):
            answers.append(self.posteriors(image))
            seconds.append(self.line.seconds)
        exits = torch.zeros(len(images), dtype=torch.int64, device=self._place)
        taken = torch.tensor(seconds, dtype=torch.float64, device=self._place)
        return VictimAnswer(torch.cat(answers), exits), taken

    def posteriors(self, images: Tensor) -> Tensor:
        """Ask for the (n, K) float32 posteriors of images, or the one-hot of its labels."""
        answer = self.line.ask(images.detach().cpu().numpy())
        read = self._read(answer, len(images))
        return torch.from_numpy(read).to(self._place)

    def _read(self, answer: Array, count: int) -> Array:
        """Turn labels, posteriors or logits into (n, K) float32 rows that sum to 1."""
        kind: Kind | None = "labels" if answer.dtype.kind in "iu" else None
        if kind is None and answer.dtype.kind == "f" and answer.shape == (count, self._classes):
            kind = self._kind if self._kind != "labels" else None
            kind = kind or ("posteriors" if _are_posteriors(answer) else "logits")
        if kind == "labels" and answer.shape in ((count,), (count, 1)):
            answer = answer.reshape(count)
            if not ((answer >= 0) & (answer < self._classes)).all():
                raise self._fault(f"a label outside 0 to {self._classes - 1}")
        elif kind is None or kind == "labels":
            raise self._fault(f"{answer.dtype} {answer.shape} for {count} images")
        if kind != "labels" and not np.isfinite(answer).all():
            raise self._fault("a number that is not finite")
        if self._kind not in (None, kind):
            raise self._fault(f"{kind} after {self._kind}")
        if kind == "posteriors" and not _are_posteriors(answer):
            raise self._fault("rows that do not sum to 1, after some that did")
        if kind == "labels" and self._labels == "soft":
            raise ArenaError(f'{self._name} tells labels alone; set threat.labels = "hard"')
        if self._kind is None and kind == "logits" and (answer >= 0).all():
            sums = answer.astype(np.float64).sum(1)
            self.line.note(
                f"{self._name} answers rows that sum to {sums.min():.4g} to {sums.max():.4g}: they "
                f"are taken for logits; let it answer posteriors if they are none"
            )
        self._kind = kind
        return _posteriors_of(answer, kind, self._classes)

    def _fault(self, got: str) -> ArenaError:
        return ArenaError(
            f"{self._name} answered {got}; expected (n, {self._classes}) posteriors or logits, or "
            f"(n,) whole numbers, the labels, in every answer alike"
        )


def _are_posteriors(rows: Array) -> bool:
    """Tell whether rows are posteriors, two digits of each at least."""
    off = min(_MOST_OFF, _ON_SIMPLEX + _ROUNDED * max(2, rows.shape[1]))
    return bool((rows >= 0).all() and (np.abs(_sums(rows) - 1) <= off).all())


def _sums(rows: Array) -> Array:
    sums: Array = rows.astype(np.float64).sum(1, keepdims=True)
    return sums


def _posteriors_of(answer: Array, kind: Kind, num_classes: int) -> Array:
    if kind == "labels":
        return np.eye(num_classes, dtype=np.float32)[answer]
    if kind == "logits":
        rows: Array = torch.from_numpy(answer.astype(np.float64)).softmax(1).float().numpy()
        return rows
    rows, sums = answer.astype(np.float32), _sums(answer)  # a copy
    whole: Array
    if answer.dtype == np.float16:
        whole = rows / rows.sum(1, keepdims=True)
        return whole
    rounded = np.abs(sums - 1) > _ON_SIMPLEX
    whole = np.where(rounded, answer / np.where(rounded, sums, 1), rows).astype(np.float32)
    return whole
