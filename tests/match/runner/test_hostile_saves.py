"""Saves that somebody else put beside a log: refused in one line, and no code of theirs runs."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from arena.runner.match import play

pytestmark = pytest.mark.timeout(60)  # a pipe or a device without an end


def header(folder):
    (found,) = folder.glob("*.json")
    return found


def state(folder):
    return folder / json.loads(header(folder).read_text())["file"]


def told(**values):
    """Change what a header tells."""
    return lambda folder: header(folder).write_text(
        json.dumps(json.loads(header(folder).read_text()) | values)
    )


def held(content):
    """Put a state in the place of the one that was saved, with the digest that fits."""

    def put(folder):
        file = io.BytesIO()
        torch.save(content, file)
        written = content if isinstance(content, bytes) else file.getvalue()
        state(folder).write_bytes(written)
        told(sha256=hashlib.sha256(written).hexdigest(), bytes=len(written))(folder)

    return put


def described(*nodes):
    return held({"description": json.dumps({"root": [0], "nodes": nodes}), "tensors": []})


def replaced(path, make):
    """Put what is no file of our own in the place of one."""

    def put(folder):
        place = path(folder)
        place.unlink()
        make(place)

    return put


def of_header(text):
    return lambda folder: header(folder).write_bytes(text)


def no_folder(folder):
    shutil.rmtree(folder)
    folder.write_text("x")


DEEP = '{"root": [0], "nodes": ' + "[" * 100_000 + "]" * 100_000 + "}"

SAVES = {
    "an empty state": held(b""),
    "a header of 2^60 bytes": held((2**60).to_bytes(8, "little") + b"{}"),
    "a function of Python": described(["name", "os", "system"]),
    "a function of torch": described(["new", "torch", "load", [], None, [], []]),
    "no node": described(),
    "a node that is none": described(7),
    "deep nesting": held({"description": DEEP, "tensors": []}),
    "no description": held([1, 2]),
    "another file": told(file="../../../etc/passwd"),
    "a file of the system": told(file="/etc/passwd"),
    "a mark of SQL": told(mark={"round": "1; DROP TABLE run"}),
    "a mark that is a list": told(mark=[1]),
    "a mark beyond 64 bits": told(mark={"round": 10**40}),
    "queries in words": told(queries_used="many"),
    "queries beyond 64 bits": told(queries_used=10**40),
    "no digest": told(sha256=None),
    "a key of its own": told(evil=1),
    "a newer version": told(version=99),
    "a header that is no text": of_header(b"\xff\xfe\x00"),
    "a header that nests": of_header(b"[" * 200_000),
    "a long header": of_header(b" " * 2**24),
    "a link to a file": replaced(state, lambda place: place.symlink_to("/etc/hostname")),
    "a link to a device": replaced(state, lambda place: place.symlink_to("/dev/zero")),
    "a pipe": replaced(state, os.mkfifo),
    "a folder": replaced(state, Path.mkdir),
    "a header that is a device": replaced(header, lambda place: place.symlink_to("/dev/zero")),
    "a header that is a pipe": replaced(header, os.mkfifo),
    "no folder of saves": no_folder,
}


QUICK = ("a function of Python", "a mark of SQL", "queries beyond 64 bits", "a header that nests",
         "a pipe", "a folder", "a header that is a device")  # fmt: skip


@pytest.mark.parametrize(
    "save",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SAVES],
)
def test_a_hostile_save_is_told_in_one_line_and_the_episode_starts_afresh(
    broken, scenario, watcher, always, save
):
    log, row, store = broken
    SAVES[save](store.folder)
    (again,) = play(scenario(), log=log, watcher=watcher, saving=always).episodes
    assert (again.status, again.id != row.id) == ("success", True)
    lines = [line for line in watcher.lines if "starting afresh" in line]
    assert len(lines) == 1, watcher.lines
    assert all(len(line) < 400 and "\n" not in line for line in lines)
