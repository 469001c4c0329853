"""The images that an episode plays with: the victim's data, pools, and those of benign users."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from arena.scenario import EpisodePlan
from arena.scenario.contents import of_data
from arena.scenario.plan import PATH_SOURCES
from arena.scenario.pools import INSIST, part_of_victims_data
from arena.scenario.schema_parts import DataSpec
from envs.data.catalog import SOURCES
from envs.data.images import ImageSet, Splits
from envs.data.overlap import copies_among_scored, digests, scored_digests, without
from envs.data.own import is_own
from envs.data.sources import load, load_pool
from envs.data.splits import resampled
from envs.errors import PlayerError, ScenarioError
from envs.game.traffic import BenignTraffic
from envs.seeding import Streams


class EpisodeImages:
    """Loads the images of episodes, and lends none that clones are scored on.

    Args:
        device: where images live.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._splits: dict[str, Splits] = {}
        self._as_planned: set[str] = set()  # keys of those that are what their plan says
        self._resampled: tuple[tuple[str, int], Splits] | None = None  # of the latest seed
        self._scored: dict[str, frozenset[bytes]] = {}  # of the latest splits, by fingerprint
        self._copies: dict[str, int] = {}  # likewise
        self._overlaps: dict[tuple[str, str, int], int] = {}  # by splits, pool and seed
        self._seen: dict[tuple[str, str, int, str], int] = {}  # and a defence's source

    def splits(self, plan: EpisodePlan) -> Splits:
        """Load the victim's data set, divided anew by the seed where the scenario asks for it."""
        key = _data_key(plan)
        if key not in self._splits:
            self._splits[key] = load(plan.data.use, **self._options(plan.data))
            # else they were edited between plan and reading, which the check of the plan tells
            if of_data(plan.data) == plan.contents.get("data", ""):
                self._as_planned.add(key)
        seed = _resampling(plan)
        if seed is None:
            return self._splits[key]
        if self._resampled is None or self._resampled[0] != (key, seed):
            self._resampled = ((key, seed), resampled(self._splits[key], seed))
        return self._resampled[1]

    def remarks(self, plan: EpisodePlan) -> list[str]:
        """Tell of copies in the parts of a data set that is not one of ours."""
        if plan.data.use not in PATH_SOURCES and not is_own(plan.data.use):
            return []
        splits = self.splits(plan)
        if splits.fingerprint not in self._copies:
            self._copies = {splits.fingerprint: copies_among_scored(splits)}
        count, scored = self._copies[splits.fingerprint], len(splits.checkpoint) + len(splits.test)
        if not count:
            return []
        return [
            f"{count} of the {scored} images that clones are scored on lie in another part of the "
            f"data too: who has those images knows their labels"
        ]

    def held(self, plan: EpisodePlan) -> tuple[str, ...]:
        """Name what of a plan's `contents` is in memory, and is not read again."""
        return ("data",) if _data_key(plan) in self._as_planned else ()

    def pool(self, plan: EpisodePlan) -> tuple[ImageSet | None, int | None]:
        """Load the attacker's surrogate pool; count the scored images in it. None without one.

        Raises:
            ScenarioError: it holds images that clones are scored on, and the scenario does not
                insist.
        """
        spec = plan.threat.pool
        if spec is None:
            return None, None
        pool = self.load_pool(plan, spec, generator=Streams(plan.seed).torch("pool"))
        key = (self.splits(plan).fingerprint, _pool_key(plan, spec), plan.seed)
        if key not in self._overlaps:
            self._overlaps[key] = self._test_overlap(plan, pool)
        shared = self._overlaps[key]
        if shared and not plan.threat.allow_test_overlap:
            raise ScenarioError(f"the pool '{spec.use}' {_shares(shared)}; {INSIST}")
        return pool, shared

    def _test_overlap(self, plan: EpisodePlan, pool: ImageSet) -> int:
        """Count the images that clones are scored on and that a pool holds, by their content."""
        return len(self._scored_of(plan) & digests(pool))

    def _scored_of(self, plan: EpisodePlan) -> frozenset[bytes]:
        splits = self.splits(plan)
        if splits.fingerprint not in self._scored:
            self._scored = {splits.fingerprint: scored_digests(splits)}
        return self._scored[splits.fingerprint]

    def load_pool(
        self, plan: EpisodePlan, spec: DataSpec, *, generator: torch.Generator
    ) -> ImageSet:
        """Load a pool at the victim's image shape. Raises ArenaError as its source does."""
        shape = self.splits(plan).image_shape
        # a part of the victim's own data set must be cut out of the episode's division of it
        own = part_of_victims_data(plan.data, spec) is not None
        pool = load_pool(
            spec.use,
            image_shape=shape,
            generator=generator,
            resample=_resampling(plan) if own else None,
            **self._options(spec),
        )
        # sets of others stay in memory for later episodes, and a player may write into a pool
        return pool.copy() if is_own(spec.use) else pool

    def loader_for_defences(self, plan: EpisodePlan) -> Callable[..., ImageSet]:
        """Return a loader of pools for defences; it leaves out images that clones are scored on.

        The loader raises PlayerError for a pool that is cut out of those, or holds nothing else.
        """

        def load_unseen(name: str, *, generator: torch.Generator, **options: Any) -> ImageSet:
            places = {key: options.pop(key) for key in ("root", "download") if key in options}
            options.pop("device", None)
            # unchecked: the loader of the data set checks the options by name and value
            spec = DataSpec.model_construct(use=name, params=options, **places)
            part = part_of_victims_data(plan.data, spec)
            pool = self.load_pool(plan, spec, generator=generator)
            # data sets of others share single images: CIFAR-100's test set has one of CIFAR-10's
            left = without(pool, self._scored_of(plan))
            if part not in (None, "train", "validation") or not len(left):
                raise PlayerError(
                    f"a defence gets no images of '{plan.data.use}' on which it is measured: "
                    f"'{name}' holds some; take the split 'train' or 'validation'"
                )
            return left

        return load_unseen

    def require_unseen(self, plan: EpisodePlan, sources: Iterable[str]) -> None:
        """Refuse a defence that was trained on images which the attacker's pool holds.

        Args:
            plan: of the episode.
            sources: of the defence's images, by name; those that are drawn anew are not compared.

        Raises:
            ScenarioError: they share images.
        """
        spec = plan.threat.pool
        read = [name for name in sources if name in SOURCES and SOURCES[name].splits is not None]
        # the pool is read from its files for this, so that nothing is read where nothing may be
        if spec is None or not read:
            return
        form = (self.splits(plan).fingerprint, _pool_key(plan, spec), plan.seed)
        for name in read:
            if (key := (*form, name)) not in self._seen:
                self._seen[key] = self._shared_with(plan, name)
            if shared := self._seen[key]:
                raise ScenarioError(
                    f"expected a pool that no defence was trained on, but '{spec.use}' holds "
                    f"{shared} images of '{name}'; give the attacker or the defence others"
                )

    def _shared_with(self, plan: EpisodePlan, source: str) -> int:
        """Count the images of a defence's source that the attacker's pool holds."""
        pool, _ = self.pool(plan)
        assert pool is not None
        generator = Streams(plan.seed).torch("unseen")
        return len(
            digests(pool) & digests(self.loader_for_defences(plan)(source, generator=generator))
        )

    def traffic(self, plan: EpisodePlan, streams: Streams) -> BenignTraffic | None:
        """Set benign users up, if the scenario has any: with images that are in no other part."""
        if plan.traffic.benign == 0:
            return None
        ood = None
        if plan.traffic.ood is not None:
            spec = plan.traffic.ood
            ood = self.load_pool(plan, spec, generator=streams.torch("traffic/ood"))
            if shared := self._test_overlap(plan, ood):
                raise ScenarioError(f"traffic.ood: '{spec.use}' {_shares(shared)}")
        return BenignTraffic(
            self.splits(plan).benign,
            share=plan.traffic.benign,
            ood=ood,
            ood_share=plan.traffic.ood_share,
            clients=plan.traffic.clients,
            generator=streams.torch("traffic"),
        )

    def _options(self, spec: DataSpec) -> dict[str, Any]:
        """Turn a data table into arguments of the loader, which checks them by name and value."""
        return {
            "root": None if spec.root is None else Path(spec.root),
            "download": spec.download,
            "device": self._device,
            **spec.params,
        }


def _data_key(plan: EpisodePlan) -> str:
    """Tell data sets apart, and what their files held: of a search, plans are made in mid-run."""
    return f"{plan.data.model_dump_json()} {plan.contents.get('data', '')}"


def _pool_key(plan: EpisodePlan, spec: DataSpec) -> str:
    return f"{spec.model_dump_json()} {plan.contents.get('pool', '')}"


def _shares(count: int) -> str:
    return f"holds {count} of the images that clones are scored on; take other images"


def _resampling(plan: EpisodePlan) -> int | None:
    """Return the seed by which the victim's data set is divided anew; None for its own division."""
    return Streams(plan.seed).integer("data") if plan.data.resample else None
