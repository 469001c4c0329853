"""Files whose content no name fixes are part of a plan's identity, wherever they lie."""

import os
import shutil
import time

import pytest
from PIL import Image

from arena.scenario import Scenario, contents
from arena.scenario.planning import contents_of
from envs.errors import DataMissing

RAW = {
    "version": 1,
    "name": "own",
    "seeds": [0],
    "victim": {"use": "conv-small", "recipe": {"epochs": 1}},
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 100},
    "attackers": [{"use": "noise"}],
    "defenders": [{"name": "undefended"}],
}


def plan_of(root, **changes):
    data = {"use": "folder", "root": str(root), "params": {"path": "set"}}
    return Scenario.parse({**RAW, "data": data, **changes}).plans()[0]


@pytest.fixture
def images(tmp_path):
    """A folder of two classes, changed long ago."""
    for number, name in enumerate(("cats", "dogs")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(3):
            image = Image.new("L", (8, 8), 40 * number + index)
            image.save(tmp_path / "set" / name / f"{index}.png")
    return tmp_path


def test_links_that_go_round_are_gone_once(images):
    for name, other in (("cats", "dogs"), ("dogs", "cats")):
        (images / "set" / name / "up").symlink_to("..")
        (images / "set" / name / "other").symlink_to(images / "set" / other)
    before = plan_of(images).hash
    Image.new("L", (8, 8), 200).save(images / "set" / "cats" / "more.png")
    assert plan_of(images).hash != before


def test_a_link_to_nothing_is_passed_over(images, settled):
    before = plan_of(images).hash
    (images / "set" / "cats" / "gone.png").symlink_to(images / "nowhere.png")
    assert plan_of(images).hash == before


@pytest.fixture
def settled(monkeypatch):
    """Take every file for one that changed long ago."""
    monkeypatch.setattr(contents, "RACY_SECONDS", -1e9)


def exchange(folder):
    (folder / "cats").rename(folder / "now")
    (folder / "dogs").rename(folder / "cats")
    (folder / "now").rename(folder / "dogs")


def repaint(folder):
    Image.new("L", (8, 8), 200).save(folder / "cats" / "0.png")


def same_size_and_time(folder):
    file = folder / "cats" / "0.png"
    stat = file.stat()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES = {
    "two classes exchanged": exchange,
    "an image painted over": repaint,
    "as large and as old": same_size_and_time,
    "an image more": lambda folder: shutil.copy(folder / "cats/0.png", folder / "cats/9.png"),
    "an image less": lambda folder: (folder / "cats" / "0.png").unlink(),
    "an image renamed": lambda folder: (folder / "cats/0.png").rename(folder / "cats/z.png"),
    "an empty class": lambda folder: (folder / "ants").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_in_one_folder_are_another_episode(images, settled, change):
    before = plan_of(images)
    assert plan_of(images).hash == before.hash
    CHANGES[change](images / "set")
    assert plan_of(images).hash != before.hash
    assert contents_of(before) != before.contents  # what a replay names as a cause


CHANGES_NOT = {
    "copied elsewhere": lambda root: shutil.copytree(root / "set", root / "copy"),
    "touched": lambda root: os.utime(root / "set" / "cats" / "0.png"),
    "a hidden file": lambda root: (root / "set" / ".DS_Store").write_text("x"),
    "a note": lambda root: (root / "set" / "cats" / "notes.txt").write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES_NOT)
def test_the_same_images_are_the_same_episode(images, settled, change):
    before = plan_of(images)
    CHANGES_NOT[change](images)
    path = "copy" if (images / "copy").exists() else "set"
    data = {"use": "folder", "root": str(images), "params": {"path": path}}
    assert plan_of(images, data=data).hash == before.hash


@pytest.mark.parametrize("role", ["pool", "ood"])
def test_pools_count_as_data_do(images, settled, role):
    own = {"use": "folder", "root": str(images), "params": {"path": "set"}}
    changes = {"threat": {"budget": 100, "pool": own}} if role == "pool" else {
        "traffic": {"benign": 0.5, "ood": own, "ood_share": 0.5}}  # fmt: skip
    before = plan_of(images, data="digits", **changes)
    assert list(before.contents) == [role]
    exchange(images / "set")
    assert plan_of(images, data="digits", **changes).hash != before.hash


@pytest.mark.parametrize("ood", ["folder", ["noise", "folder"], {"folder": 2.0, "noise": 1.0}])
def test_what_a_defence_names_counts(images, settled, monkeypatch, ood):
    monkeypatch.setenv("ARENA_DATA", str(images / "set"))
    defenders = [{"name": "d", "defence": [{"use": "dnf", "params": {"ood": ood}}]}]
    before = plan_of(images, data="digits", defenders=defenders)
    exchange(images / "set")
    assert plan_of(images, data="digits", defenders=defenders).hash != before.hash


def test_files_are_read_once(images, settled, monkeypatch):
    plan_of(images)
    monkeypatch.setattr(contents, "_digest", lambda entries: pytest.fail("read again"))
    assert plan_of(images).contents
    repaint(images / "set")
    with pytest.raises(pytest.fail.Exception):
        plan_of(images)


def test_files_that_changed_just_now_are_read_again(images, monkeypatch):
    plan_of(images)
    seen = []
    real = contents._digest
    monkeypatch.setattr(contents, "_digest", lambda entries: seen.append(1) or real(entries))
    plan_of(images)
    assert seen
    monkeypatch.setattr(contents, "time", type("Later", (), {"time": lambda: time.time() + 60}))
    plan_of(images)
    plan_of(images)
    assert len(seen) == 2


def test_a_folder_that_is_not_there_has_no_content(tmp_path):
    assert plan_of(tmp_path).contents == {}


def test_an_unreadable_image_is_told_in_one_line(images, settled, monkeypatch):
    (images / "set" / "cats" / "0.png").unlink()
    (images / "set" / "cats" / "0.png").symlink_to(images / "set" / "cats" / "1.png")
    real = type(images).open

    def refuse(path, *args, **kwargs):
        if path.name == "0.png":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(type(images), "open", refuse)
    with pytest.raises(DataMissing, match=r"cannot read .*0\.png: Permission denied"):
        plan_of(images)


def test_the_weights_a_victim_starts_from_count(tmp_path):
    weights = tmp_path / "own.pt"
    net = {"use": "swin-tiny", "params": {"weights": str(weights)}}
    seen = set()
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        seen.add(plan_of(tmp_path, data="digits", victim=net).hash)
    assert len(seen) == 2


def test_weights_that_are_missing_are_not_those_that_are_drawn(tmp_path):
    for net in ("victim", "clone"):
        drawn, missing = (
            plan_of(tmp_path, data="digits", **{net: {"use": "mlp-small", **more}})
            for more in ({}, {"weights": str(tmp_path / "no.pt")})
        )
        assert missing.hash != drawn.hash


def test_a_network_that_a_defence_names_counts_by_its_code(tmp_path):
    code = tmp_path / "net.py"
    code.write_text("from torch import nn\n\nclass Net(nn.Linear):\n    pass\n")
    defence = {"defence": "queen", "params": {"shadow_network": f"{code}:Net"}}
    raw = {**RAW, "data": {"use": "digits"}, "defenders": [{"name": "queen", **defence}]}

    def hashed():
        (plan,) = Scenario.parse(raw).plans()
        return plan.hash, plan.contents.get("code Net")

    before = hashed()
    code.write_text(code.read_text() + "# edited\n")
    assert None not in before
    assert all(then != now for then, now in zip(before, hashed(), strict=True))
