"""Drops who has left: runs each part of a network only on the images that are still inside.

Images run in chunks that fit the processor's cache. Early maps are large and want small chunks,
late ones are small and want large chunks to make their weights worth reading; so survivors of
several chunks are put together on the way. Survivors are copied once, straight to their new chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.exits.rules import ExitRule
from envs.nets.multi_exit import MultiExit
from envs.victim.folded import lay_out
from envs.victim.ties import Arbiter

OVERFULL = 1.25
"""A chunk may grow to this multiple of its size before survivors start another one."""

FEWEST = 4
"""Images of a request of several that run together at least behind the first exit: kernels round
otherwise for fewer, so that the last digits of an image that goes on alone would tell who beside it
has left."""


@dataclass(eq=False, slots=True)
class _Part:
    """Images that run together: features, places in the request, and who of them goes on."""

    features: Tensor
    rows: Tensor
    stays: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features) if self.stays is None else len(self.stays)


class Compaction:
    """One request on its way through a network.

    Args:
        network: serves, in evaluation mode.
        images: (n, c, h, w).
        rule: decides who leaves where, exit by exit.
        state: (n, d), the rule's rows.
        arbiter: decides ties.
        chunks: images run together in each segment.
    """

    def __init__(
        self,
        network: MultiExit,
        images: Tensor,
        *,
        rule: ExitRule,
        state: Tensor,
        arbiter: Arbiter,
        chunks: Sequence[int],
    ) -> None:
        self._network, self._images = network, images
        self._rule, self._state, self._arbiter = rule, state, arbiter
        self._chunks = chunks
        self._tolerance = arbiter.tolerance(images.device)
        self._exits = torch.empty(len(images), dtype=torch.int64, device=images.device)
        self._logits: list[Tensor] = []
        self._owners: list[Tensor] = []

    def run(self) -> tuple[Tensor, Tensor]:
        """Return the (n, K) logits of the exit each image left from, and the (n,) exits."""
        last = self._network.num_exits - 1
        stops = [index for index in range(last) if self._rule.asks(index)]
        parts, first = self._first_parts(), 0
        for stop in stops:
            self._part_ways(stop, parts, self._answers(stop, parts, first))
            first = stop + 1
            parts = _regroup(parts, self._chunks[first])
            if not parts:
                break
        else:
            self._leave(last, self._answers(last, parts, first), _rows(parts))
        return _reorder(self._logits, self._owners), self._exits

    def _first_parts(self) -> list[_Part]:
        rows = torch.arange(len(self._images), device=self._images.device)
        size = self._chunks[0]
        pairs = zip(torch.split(self._images, size), torch.split(rows, size), strict=True)
        return [_Part(images, owners) for images, owners in pairs]

    def _answers(self, stop: int, parts: list[_Part], first: int) -> Tensor:
        """Run every part from a segment on to an exit; return the logits of all, side by side."""
        return joined([self._answer(stop, part, first) for part in parts])

    def _answer(self, stop: int, part: _Part, first: int) -> Tensor:
        features, count = part.features, len(part)
        if first and count < FEWEST and len(self._images) > 1:
            features = features[torch.arange(FEWEST, device=features.device) % count]
        if features.ndim == 4 and (first == 0 or len(features) > count):
            features = lay_out(features, self._network)
        for index in range(first, stop + 1):
            features = self._network.run_segment(index, features)
        part.features = features[:count]
        return self._network.logits(stop, features)[:count]  # while the maps are in cache

    def _part_ways(self, stop: int, parts: list[_Part], logits: Tensor) -> None:
        """Let those leave who do, and note who stays in each part."""
        rows, sizes = _rows(parts), [len(part) for part in parts]
        leaves, counts = self._decide(stop, logits, rows, sizes=sizes)
        if not any(counts):
            return
        order = leaves.to(torch.uint8).argsort(stable=True)  # who stays, then who leaves
        staying = [size - count for size, count in zip(sizes, counts, strict=True)]
        *stays, gone = order.split([*staying, sum(counts)])
        self._leave(stop, logits[gone], rows[gone])
        start = 0
        for part, own, count, size in zip(parts, stays, counts, sizes, strict=True):
            if count:
                part.rows, part.stays = rows[own], own - start
            start += size

    def _decide(
        self, stop: int, logits: Tensor, rows: Tensor, *, sizes: list[int]
    ) -> tuple[Tensor, list[int]]:
        """Tell who leaves, and how many of each part; ties are decided by the arbiter."""
        state = self._state[rows]
        leaves, close = self._rule.judge(stop, logits, state, tolerance=self._tolerance)
        if close is None:
            return leaves, _counts(leaves, sizes)
        *counts, ties = _counts(leaves, sizes, close)
        if ties:
            places = close.nonzero().squeeze(1)
            images, state = self._images[rows[places]], state[places]
            leaves[places] = self._arbiter.leaves(stop, images, rule=self._rule, state=state)
            counts = _counts(leaves, sizes)
        return leaves, counts

    def _leave(self, index: int, logits: Tensor, rows: Tensor) -> None:
        self._exits.index_fill_(0, rows, index)  # an assignment would copy a number over
        self._logits.append(logits)
        self._owners.append(rows)


def _counts(leaves: Tensor, sizes: list[int], *others: Tensor) -> list[int]:
    """Count who leaves in each part, and others as a whole, in one wait for the device."""
    sums = [part.sum() for part in (*leaves.split(sizes), *others)]
    counts: list[int] = torch.stack(sums).tolist()
    return counts


def _rows(parts: list[_Part]) -> Tensor:
    return joined([part.rows for part in parts])


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Put tensors behind each other; a single one is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _regroup(parts: list[_Part], size: int) -> list[_Part]:
    """Put neighbours together, as long as they make no more than a chunk."""
    groups: list[list[_Part]] = []
    count = 0
    for part in parts:
        if not len(part):
            continue
        if not groups or count + len(part) > size * OVERFULL:
            groups.append([])
            count = 0
        groups[-1].append(part)
        count += len(part)
    return [_together(group) for group in groups]


def _together(group: list[_Part]) -> _Part:
    """Copy the survivors of some parts side by side; nobody is copied where nobody has left."""
    if len(group) == 1 and group[0].stays is None:
        return group[0]
    rows = torch.cat([part.rows for part in group])
    features = [_places_first(part.features) for part in group]
    joined = features[0].new_empty((len(rows), *features[0].shape[1:]))
    end = 0
    for part, maps in zip(group, features, strict=True):
        start, end = end, end + len(part)
        if part.stays is None:
            joined[start:end] = maps
        else:
            torch.index_select(maps, 0, part.stays, out=joined[start:end])
    if joined.ndim == 4 and features[0] is not group[0].features:
        joined = joined.permute(0, 3, 1, 2)
    return _Part(joined, rows)


def _places_first(features: Tensor) -> Tensor:
    """View channels-last maps as they lie in memory; rows could not be copied whole otherwise."""
    if features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last):
        return features.permute(0, 2, 3, 1)
    return features


def _reorder(logits: list[Tensor], owners: list[Tensor]) -> Tensor:
    """Put the logits of each exit back to the places of their images."""
    joined = torch.cat(logits)
    if len(logits) == 1:
        return joined
    return torch.empty_like(joined).index_copy_(0, torch.cat(owners), joined)
