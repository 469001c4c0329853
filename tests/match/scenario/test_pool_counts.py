"""A pool of more images than its set has is refused before anything is trained."""

import numpy as np
import pytest
import tomli_w
from PIL import Image
from typer.testing import CliRunner

from arena.cli.app import app
from arena.scenario.scenario import Scenario
from envs.data import folders
from envs.errors import ScenarioError


def check(tiny, pool, **more):
    Scenario.parse(tiny(threat={"pool": pool}, **more)).check()


@pytest.fixture
def images(tmp_path):
    """A folder of 30 images of two classes."""
    for number in range(30):
        place = tmp_path / "set" / ("even", "odd")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(place / f"{number}.png")
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("params", "there"),
    [
        ({"count": 898}, 897),
        ({"count": 301, "split": "validation"}, 300),
        ({"count": 200, "classes": ["3"]}, 91),
        ({"count": 5000, "size": 32}, 897),
    ],
)
def test_more_digits_than_there_are_are_refused(tiny, params, there):
    pool = {"use": "digits", "params": params}
    data = {"use": "digits", "params": {"size": params.get("size", 8)}}
    with pytest.raises(ScenarioError) as refused:
        check(tiny, pool, data=data)
    assert str(refused.value).startswith(
        f"threat.pool: asked for a pool of {params['count']} images of 'digits', which has {there}"
    )
    assert "\n" not in str(refused.value)
    check(tiny, {"use": "digits", "params": params | {"count": there}}, data=data)


def test_what_is_drawn_or_made_up_to_its_count_has_as_many_as_are_asked_for(tiny):
    check(tiny, {"use": "strokes", "params": {"count": 50_000}})
    check(tiny, {"use": "digits", "params": {"count": 50_000, "enlarge": True}})


def test_a_class_that_is_not_there_is_refused(tiny):
    pool = {"use": "digits", "params": {"classes": ["ten"]}}
    with pytest.raises(ScenarioError, match=r"threat\.pool: no class of 'digits' named 'ten'"):
        check(tiny, pool)


def test_pools_of_attackers_and_of_strangers_are_counted_too(tiny):
    pool = {"use": "digits", "params": {"count": 1000, "split": "benign"}}
    players = [{"use": "noise", "pool": pool}]
    with pytest.raises(ScenarioError, match=r"attackers\.noise\.pool: asked for a pool of 1000"):
        Scenario.parse(tiny(attackers=players)).check()
    traffic = {"benign": 0.2, "ood_share": 0.5, "ood": pool}
    with pytest.raises(ScenarioError, match=r"traffic\.ood: asked for a pool of 1000"):
        Scenario.parse(tiny(traffic=traffic)).check()


def test_files_are_counted_without_being_decoded(tiny, images, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("decoded")

    monkeypatch.setattr(folders, "decoded", refuse)
    pool = {"use": "folder", "root": str(images), "params": {"count": 25}}
    with pytest.raises(ScenarioError, match="asked for a pool of 25 images of 'set', which has 24"):
        check(tiny, pool)
    check(tiny, pool | {"params": {"count": 24}})
    (images / "even" / "40.png").write_bytes(b"counted, and found damaged when it is read")
    check(tiny, pool)  # the folder is looked at anew
    check(tiny, pool | {"root": str(images / "not there")})


def test_a_dry_run_refuses_too_many_images(tiny, tmp_path):
    pool = {"use": "digits", "params": {"count": 5000}}
    path = tmp_path / "many.toml"
    path.write_text(tomli_w.dumps(tiny(threat={"pool": pool})))
    told = CliRunner().invoke(app, ["run", str(path), "--dry-run", "--log", str(tmp_path / "a.db")])
    assert told.exit_code == 2
    assert "which has 897; ask for fewer" in told.stderr
