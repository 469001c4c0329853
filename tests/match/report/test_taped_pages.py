"""The queries of a tape, as the viewer shows them and as it refuses them."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import update

from arena.log import artifacts
from arena.log.store import Log
from arena.log.tables import ARTIFACT
from arena.recording import excerpts, shards
from arena.report.view import query_browser
from arena.report.view.site import Site
from envs.game.rounds import AnsweredRequest, Countermeasure, Round
from tests.match.conftest import MadeUp
from tests.match.report.test_pages import page_of, text_of


def a_round(number, images, account=0):
    """A round whose answers name class 1, at the second exit, after 1 ms, 2 ms and so on."""
    n = len(images)
    answers = torch.tensor([[0.2, 0.7, 0.1, 0.0]]).repeat(n, 1)
    seconds = 0.001 * torch.arange(1, n + 1, dtype=torch.float64)
    exits = torch.ones(n, dtype=torch.int64)
    request = AnsweredRequest(images, 0, Countermeasure(), answers, exits, seconds)
    return Round(number, request, (), answers, account)


@pytest.fixture(scope="module")
def taped(tmp_path_factory):
    """A site with an episode of 30 queries in three shards; query n is all grey n."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 10 * 80)
        patch.setattr(query_browser, "SHOWN", 8)
        with Log.open(tmp_path_factory.mktemp("taped") / "arena.db") as log:
            yield _taped(MadeUp(log))


def _taped(made_up):
    grey = torch.arange(1, 31).float().div(255).reshape(30, 1, 1, 1).expand(30, 1, 4, 4)
    parts = [a_round(n, part, n % 2) for n, part in enumerate(grey.split(5))]
    id = made_up.play(taped=parts, queries_used=30)
    return Site(made_up.log), id, made_up.log


def pixels(page):
    """Read the first pixel of each picture."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [int(np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))).flat[0]) for one in found]


@pytest.mark.parametrize(("first", "shown"), [(1, range(1, 9)), (7, range(7, 15)), (29, (29, 30))])
def test_queries_are_browsed_across_shards(taped, first, shown):
    site, id, _ = taped
    page = page_of(site, f"/episode/{id}/queries?from={first}")
    assert pixels(page) == list(shown)
    assert f"Queries {shown[0]} to {shown[-1]} of 30" in page


def test_a_query_is_told_with_answer_exit_latency_and_what_an_undefended_victim_says(taped):
    site, id, _ = taped
    said = text_of(site, f"/episode/{id}/queries?from=7")
    card = said.partition("Query 7 ")[2].partition("Query 8")[0]
    expected = (
        "asked round 2, account 2 answer class 1: 70.0% class 0: 20.0% class 2: 10.0% "
        "undefended class 0: 25.0% class 1: 25.0% class 2: 25.0% another class "
        "exit 2, whole network latency 2 ms"
    )
    assert card.strip() == expected
    assert f'href="/episode/{id}/queries"' in page_of(site, f"/episode/{id}")
    assert "The tape ends after 30 queries" in text_of(site, f"/episode/{id}/queries?from=31")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["cat", "<b>dog", "owl"], "class 1 (&lt;b&gt;dog): 70.0%"),
        (["cat"], "class 1: 70.0%"),  # a log may hold anything
        ("cat", "class 1: 70.0%"),
    ],
)
def test_classes_go_by_the_names_that_the_scenario_gives_the_victim(tmp_path, names, shown):
    with Log.open(tmp_path / "arena.db") as log:
        made_up = MadeUp(log)
        parts = [a_round(0, torch.full((5, 1, 4, 4), 0.5), 1)]
        id = made_up.play(taped=parts, queries_used=5, plan={"victim": {"class_names": names}})
        assert shown in page_of(Site(log), f"/episode/{id}/queries")


@pytest.fixture
def first_shard(taped):
    """The row of the first shard; what a test changes in it is put back."""
    _, id, log = taped
    row = next(row for row in log.artifacts(id) if row.kind == "queries")
    file = artifacts.locate(log.where, id, row.path)
    before = file.read_bytes()
    yield row, file
    file.write_bytes(before)
    with log.engine.begin() as connection:
        connection.execute(
            update(ARTIFACT).where(ARTIFACT.c.meta["shard"].as_integer() == 0),
            {"path": row.path, "sha256": row.sha256, "meta": row.meta},
        )


def _put(log, row, **values):
    with log.engine.begin() as connection:
        connection.execute(update(ARTIFACT).where(ARTIFACT.c.path == row.path).values(**values))


def test_an_older_tape_says_what_it_did_not_keep(taped, first_shard):
    site, id, log = taped
    row, file = first_shard
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in ("images", "posteriors", "rounds")}
    np.savez_compressed(file, **kept)
    _put(log, row, sha256=artifacts.digest(file))
    said = text_of(site, f"/episode/{id}/queries")
    assert "undefended not kept exit not kept latency none" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "../../../../etc/passwd"}, "does not lie in the episode's folder"),
        ({"path": "/etc/passwd"}, "does not lie in the episode's folder"),
        ({"sha256": "0" * 64}, "was altered"),
        ({"meta": {"shard": 0, "rounds": 2, "queries": "ten"}}, "queries as a whole number"),
        ({"meta": {"shard": 0, "rounds": 2, "queries": 9}}, "answers of 9 queries"),
    ],
)
def test_a_tape_from_elsewhere_is_refused_in_a_line_and_the_page_stands(
    taped, first_shard, change, said
):
    site, id, log = taped
    _put(log, first_shard[0], **change)
    told = text_of(site, f"/episode/{id}/queries")
    assert said in told
    assert "root:" not in told
    assert f"Episode {id}" in told


def test_a_shard_that_would_fill_the_memory_is_not_read(taped, first_shard, monkeypatch):
    site, id, _ = taped
    monkeypatch.setattr(excerpts, "LARGEST", 1000)
    assert "arrays of at most 1,000 bytes" in text_of(site, f"/episode/{id}/queries")
