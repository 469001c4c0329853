"""A pool that holds images clones are scored on is refused, or marked where the user insists."""

import numpy as np
import pytest
import torch
from PIL import Image

from agents.base import Attacker
from arena.log.store import Log
from arena.runner import episode_images
from arena.runner.match import play
from arena.runner.setup import Setup
from envs.data.images import ImageSet, joined
from envs.data.overlap import digests, scored_digests
from envs.data.sources import load, load_pool
from envs.data.splits import make_splits
from envs.errors import PlayerError, ScenarioError
from envs.seeding import Streams

UNTRAINED = {"victim.recipe.epochs": 1, "threat.budget": 64, "clone.use": "mlp-small"}


class Looking(Attacker):
    """Asks one batch and looks at nothing."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        oracle.query(kit.pool.images(slice(0, 8)) if self.requires else torch.rand(8, 1, 8, 8))


class Needing(Looking):
    requires = frozenset({"pool"})


def export(images, folder, *, colour=False, order=None):
    """Write images as PNG files, CLASS/NUMBER.png, which any viewer opens."""
    order = range(len(images)) if order is None else order
    for number, index in enumerate(order):
        path = folder / images.classes[int(images.labels[index])] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(images.pixels[index, 0].numpy())
        (picture.convert("RGB") if colour else picture).save(path)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def played(tmp_path, with_attacker):
    """Play an attacker with a pool; gives the row."""

    def run(pool, player="Looking", **overrides):
        pool = {f"threat.pool.{key}": value for key, value in pool.items()}
        scenario = with_attacker(player, **UNTRAINED, **pool, **overrides)
        with Log.open(tmp_path / "log.db") as log:
            (row,) = play(scenario, log=log).episodes
        return row

    return run


@pytest.mark.parametrize("part", ["test", "checkpoint", "all"])
@pytest.mark.parametrize("more", [{}, {"size": 16}, {"classes": '["3"]'}])
def test_a_scored_part_of_the_victims_own_data_is_refused_before_playing(with_attacker, part, more):
    pool = {"threat.pool.use": "digits", "threat.pool.params.split": part}
    pool |= {f"threat.pool.params.{key}": value for key, value in more.items()}
    with pytest.raises(ScenarioError, match=rf"^threat\.pool: the split '{part}' of 'digits'.*"
                                            r"allow_test_overlap") as refused:  # fmt: skip
        with_attacker("Looking", **pool).check()
    assert "\n" not in str(refused.value)


def test_a_pool_of_one_attacker_and_benign_outliers_are_refused_likewise(scenario):
    test = {"use": "digits", "params": {"split": "test"}}
    with pytest.raises(ScenarioError, match=r"^attackers\.noise\.pool: the split 'test'"):
        scenario({"attackers": [{"use": "noise", "pool": test}]}).check()
    with pytest.raises(ScenarioError, match=r"^traffic\.ood: the split 'test'"):
        scenario({"traffic": {"ood": test, "ood_share": 0.5},
                  "threat": {"allow_test_overlap": True}}).check()  # fmt: skip


@pytest.mark.parametrize("part", ["train", "validation", "benign"])
def test_other_parts_are_lent(played, part):
    row = played({"use": "digits", "params.split": part})
    assert (row.status, row.test_overlap) == ("success", 0)


@pytest.mark.parametrize("form", [
    "grey", "few among others",
    *(pytest.param(one, marks=pytest.mark.slow) for one in ("colour", "shuffled")),
])  # fmt: skip
def test_an_exported_copy_of_test_images_is_refused_by_its_content(played, digits, tmp_path, form):
    images, expected = digits.test, 360
    if form == "few among others":
        images, expected = joined([digits.train, digits.test.select(slice(0, 1))]), 1
    order = np.random.default_rng(0).permutation(len(images)) if form == "shuffled" else None
    export(images, tmp_path / "copy", colour=form == "colour", order=order)
    pool = {"use": "folder", "root": f'"{tmp_path / "copy"}"', "params.split": "all"}
    row = played(pool)
    assert (row.status, row.queries_used) == ("error", None)
    assert f"holds {expected} of the images that clones are scored on" in row.error
    assert "threat.allow_test_overlap = true" in row.error
    insisted = played(pool, **{"threat.allow_test_overlap": "true"})
    assert (insisted.status, insisted.test_overlap) == ("success", expected)


def test_an_exported_copy_as_benign_outliers_is_refused(played, digits, tmp_path):
    export(digits.checkpoint, tmp_path / "copy")
    ood = {"use": "folder", "root": f'"{tmp_path / "copy"}"', "params.split": "all"}
    row = played({"use": "strokes", "params.count": 50}, **{"traffic.ood_share": 0.5},
                 **{f"traffic.ood.{key}": value for key, value in ood.items()})  # fmt: skip
    assert row.status == "error"
    assert "traffic.ood: 'folder' holds 120 of the images that clones are scored on" in row.error


def test_a_defence_gets_no_copy_of_test_images(scenario, watcher, digits, tmp_path):
    export(digits.test, tmp_path / "copy")
    (plan,) = scenario(**UNTRAINED).plans()
    load_pool = Setup(torch.device("cpu"), watcher).images.loader_for_defences(plan)
    generator = Streams(0).torch("pool")
    with pytest.raises(PlayerError, match="'folder' holds some"):
        load_pool("folder", generator=generator, root=tmp_path / "copy", split="all")
    with pytest.raises(PlayerError, match="'digits' holds some"):  # at another size
        load_pool("digits", generator=generator, split="test", size=16)
    assert len(load_pool("digits", generator=generator, split="train", count=9)) == 9


def test_single_test_images_in_the_pool_of_a_defence_are_left_out(
    scenario, watcher, digits, tmp_path
):
    own, tested = (part.select(slice(0, 7)) for part in (digits.train, digits.test))
    export(joined([own, tested.select(slice(0, 2))]), tmp_path / "mixed")
    (plan,) = scenario(**UNTRAINED).plans()
    load_pool = Setup(torch.device("cpu"), watcher).images.loader_for_defences(plan)
    lent = load_pool("folder", generator=Streams(0).torch("pool"), root=tmp_path / "mixed",
                     split="all")  # fmt: skip
    assert digests(lent) == digests(own)


@pytest.mark.parametrize(
    ("pool", "ood", "fine"),
    [
        ({"use": "digits", "params.split": "train"}, "digits", False),
        ({"use": "digits", "params.split": "validation"}, "digits", True),
        # drawn anew for each, so that no image is there twice
        ({"use": "strokes", "params.count": 50}, "strokes", True),
    ],
)
def test_no_defence_is_trained_on_images_of_the_attackers_pool(played, pool, ood, fine):
    fortress = f'{{name="fortress", defence="dnf", params={{ood="{ood}", epochs=1}}}}'
    row = played(pool, defenders=f"[{fortress}]")
    if fine:
        assert row.status == "success"
    else:
        assert row.status == "error"
        assert "'digits' holds" in row.error
        assert "give the attacker or the defence others" in row.error
        assert row.queries_used is None


def test_a_pool_is_read_once_where_no_defence_was_trained_on_a_data_set(played, monkeypatch):
    read = []

    def watched(name, **options):
        read.append(name)
        return load_pool(name, **options)

    monkeypatch.setattr(episode_images, "load_pool", watched)
    fortress = '{name="fortress", defence="dnf", params={epochs=1}}'
    assert played({"use": "digits"}, defenders=f"[{fortress}]").status == "success"
    assert read == ["digits"]


def test_an_image_that_lies_in_the_training_images_too_is_not_held_against_a_pool():
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).repeat(1, 1, 2, 2)
    images = ImageSet(pixels, torch.zeros(40, dtype=torch.int64), 1, "twins", ("only",))
    twins = joined([images.select(slice(20, 30)), images.select(slice(0, 5))])
    splits = make_splits(
        "twins", (images.select(slice(0, 10)), images.select(slice(10, 20)), twins)
    )
    assert not scored_digests(splits) & digests(splits.train)
    assert scored_digests(splits) == digests(joined([splits.checkpoint, splits.test])) - digests(
        joined([splits.train, splits.benign])
    )


@pytest.mark.parametrize(
    ("player", "knows", "named"),
    [("Looking", "own", "none"), ("Needing", "own", "pool"), ("Looking", "victim", "victim"),
     ("Needing", "victim", "victim")],
)  # fmt: skip
def test_the_row_names_what_clones_normalise_by(played, player, knows, named):
    row = played({"use": "strokes", "params.count": 50}, player, **{"threat.normalisation": knows})
    assert (row.status, row.clone_normalisation) == ("success", named)
    assert row.plan["threat"]["normalisation"] == knows


@pytest.mark.parametrize("knows", ["own", "victim"])
def test_clones_normalise_by_what_their_attacker_may_know(scenario, watcher, digits, knows):
    pool = {"threat.pool.use": "strokes", "threat.pool.params.count": 50}
    (plan,) = scenario(**pool, **{"threat.normalisation": knows}).plans()
    setup = Setup(torch.device("cpu"), watcher)
    lent, overlap = setup.images.pool(plan)
    expected = {Looking: ((0.0,), (1.0,)), Needing: lent.mean_std()}
    if knows == "victim":
        expected = dict.fromkeys(expected, (digits.mean, digits.std))
    for player, statistics in expected.items():
        _, normalisation = setup.normalisation(plan, player().requires, lent)
        assert normalisation == statistics
        clone = setup.clones(plan, Streams(0), normalisation)[0]()
        held = {tuple(one.flatten().tolist()) for one in clone.buffers()}
        assert torch.tensor(statistics[0]).tolist() in [list(one) for one in held]
    assert overlap == 0


@pytest.mark.parametrize("copies", [0, 3])
def test_test_images_that_lie_in_another_part_are_told_of_once(
    tmp_path, digits, scenario, watcher, copies
):
    train, test = digits.train.pixels[:200].clone(), digits.held_out.pixels[:60].clone()
    file = tmp_path / "own.npz"
    labels = digits.train.labels[:200].numpy(), digits.held_out.labels[:60].numpy()
    parts = dict(zip(("train_labels", "test_labels"), labels, strict=True))
    np.savez(file, train_images=train.numpy(), test_images=test.numpy(), **parts)
    whole = load("arrays", path=str(file))
    scored = torch.cat([whole.checkpoint.pixels, whole.test.pixels])
    train[:copies] = scored[:copies]
    np.savez(file, train_images=train.numpy(), test_images=test.numpy(), **parts)
    data = {"use": "arrays", "params": {"path": str(file)}}
    with Log.open(tmp_path / "log.db") as log:
        play(scenario({"data": data, "seeds": [0, 1]}), log=log, watcher=watcher)
    told = [line for line in watcher.lines if "lie in another part of the data" in line]
    line = f"{copies} of the {len(scored)} images that clones are scored on"
    assert [one.startswith(line) for one in told] == [True] * bool(copies)
