"""A damaged image is named once, before the first episode, and nothing is played."""

import numpy as np
import pytest
from PIL import Image

from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import Scenario
from envs.errors import DataMissing


@pytest.fixture
def images(tmp_path):
    """A folder of 60 grey images of 8x8 in two classes."""
    random = np.random.default_rng(0)
    for name in ("even", "odd"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def scenario_with(tiny, images, part):
    spec = {"use": "folder", "root": str(images)}
    changes = {
        "data": {"data": spec | {"params": {"grey": True}}},
        "pool": {"threat": {"pool": spec}},
        "attacker's pool": {"attackers": [{"use": "noise"}, {"use": "knockoff", "pool": spec}]},
        "traffic": {"traffic": {"ood": spec, "ood_share": 0.5}},
    }
    return Scenario.parse(tiny(seeds=[0, 1, 2], **changes[part]))


@pytest.mark.parametrize("part", ["data", "pool", "attacker's pool", "traffic"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_image_is_named_once_before_the_first_episode(
    tiny, images, tmp_path, part, workers
):
    (images / "odd" / "7.png").write_bytes(b"\x89PNG and then nothing")
    with Log.open(tmp_path / "arena.db") as log:
        with pytest.raises(DataMissing, match=r"cannot read the image .*odd/7\.png") as caught:
            play(scenario_with(tiny, images, part), log=log, workers=workers)
        assert "\n" not in str(caught.value)
        assert log.episodes() == []
        assert log.runs() == []


def test_what_is_whole_is_read_once_for_all_episodes(tiny, images, tmp_path, monkeypatch):
    from arena.runner import episode_images

    read = []
    load = episode_images.load
    monkeypatch.setattr(episode_images, "load", lambda *a, **k: read.append(a) or load(*a, **k))
    with Log.open(tmp_path / "arena.db") as log:
        result = play(scenario_with(tiny, images, "data"), log=log)
    assert [row.status for row in result.episodes] == ["success"] * 3
    assert len(read) == 1


def test_what_was_played_is_not_read_again(tiny, images, tmp_path):
    scenario = scenario_with(tiny, images, "pool")
    with Log.open(tmp_path / "arena.db") as log:
        first = play(scenario, log=log)
        assert not first.failed
        assert play(scenario, log=log).skipped == len(first.episodes)
