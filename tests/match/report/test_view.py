"""The live page shows what the log holds now, answers this machine alone, and writes nothing."""

import json
import re
import sqlite3
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.report import html as page
from arena.report.live import LivePage
from arena.report.server import LiveServer
from arena.report.view.episode_page import course_of
from arena.report.view.site import Site
from envs.errors import ArenaError


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(page, "FIGURES", {})


@contextmanager
def served(log, **options):
    with LiveServer(Site(log, **options), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, *, method="GET", host=None):
    request = urllib.request.Request(server.url.rstrip("/") + path, method=method)
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


@pytest.fixture
def live(made_up, no_figures):
    """A served log that is only read, while `made_up` writes to it."""
    with Log.open(made_up.log.where, read_only=True) as log, served(log) as server:
        yield server


def test_an_empty_log_has_a_page(live):
    status, text, _ = ask(live, "/report")
    assert status == 200
    assert "Nothing now; none has ended." in text


def test_what_is_being_played_stands_on_top_with_its_curve(made_up, live):
    made_up.play("dfme", "dnf", 3, status="started")
    status, text, headers = ask(live, "/report")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "dfme / dnf, seed 3" in text
    assert "1,000 of 1,000 queries after" in text
    assert "clone 50.0%" in text
    # accuracies 0.25, 0.4 and 0.5 at 250, 500 and 1000 of 1000 queries
    assert 'points="25.0,15.2 50.0,12.4 100.0,10.5"' in text
    assert ask(live, "/now")[1] in text


def test_the_page_follows_when_an_episode_ends(made_up, live):
    before = json.loads(ask(live, "/state")[1])
    assert f'data-state="{before["report"]}"' in ask(live, "/report")[1]
    made_up.play(clone=0.37)
    after = json.loads(ask(live, "/state")[1])
    assert after["report"] != before["report"]
    text = ask(live, "/report")[1]
    assert f'data-state="{after["report"]}"' in text
    assert "37.0% (one seed, no interval)" in text
    assert "Nothing now; 1 ended well." in text


def test_an_episode_in_play_changes_the_part_and_not_the_page(made_up, live):
    before = json.loads(ask(live, "/state")[1])
    made_up.play(status="started")
    after = json.loads(ask(live, "/state")[1])
    assert (after["report"], after["now"] != before["now"]) == (before["report"], True)


def test_figures_are_drawn_again_only_when_an_episode_has_ended(made_up, monkeypatch):
    drawn = []
    monkeypatch.setattr(page, "FIGURES", {"x": (lambda episode_data: drawn.append(1), "none")})
    made_up.play(seed=0)
    live = LivePage(made_up.log)
    live.page()
    made_up.play(seed=1, status="started")
    live.page()
    assert len(drawn) == 1
    made_up.play(seed=2)
    live.page()
    assert len(drawn) == 2


def test_the_figures_of_a_game_stay_while_episodes_of_another_end(made_up, monkeypatch):
    drawn = []

    def draw(part):
        drawn.append(part.episodes[0].scenario_name)

    monkeypatch.setattr(page, "FIGURES", {"x": (draw, "none")})
    live = LivePage(made_up.log)
    made_up.play(scenario="one")
    made_up.play(scenario="two")
    live.page()
    made_up.play(scenario="two", seed=1)
    text = live.page().text
    assert drawn == ["one", "two", "two"]
    made_up.play(scenario="one", seed=1, defender="randp")
    assert "randp" not in text
    assert "randp" in live.page().text
    assert drawn == ["one", "two", "two", "one"]


def test_what_a_dead_process_left_is_not_being_played(made_up, live):
    id = made_up.play(status="started")
    with made_up.log.writing() as connection:
        connection.exec_driver_sql("UPDATE episode SET pid = 1073741824")
    text = ask(live, "/now")[1]
    assert "Nothing now; 1 left behind by a process that is gone." in text
    assert made_up.log.episode(id).status == "started"  # marking it is not a reader's business


def test_a_filter_narrows_the_page(made_up, no_figures):
    made_up.play("dfme")
    made_up.play("noise")
    with served(made_up.log, which=EpisodeFilter(attacker="noise"), title="Mine") as server:
        text = ask(server, "/report")[1]
    assert "<title>Mine</title>" in text
    assert "noise / dnf" in text
    assert "dfme / dnf" not in text


def test_the_page_asks_nobody_but_its_own_server(made_up, live):
    made_up.play()
    text = ask(live, "/report")[1]
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', text) == ["/live.js", "/"]
    assert "default-src 'none'" in text
    assert "script-src 'self'; connect-src 'self'" in text
    status, script, headers = ask(live, "/live.js")
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert "http" not in script


def test_hostile_names_stay_text_on_the_live_part(made_up, live):
    made_up.play("<script>alert(1)</script>", '"><img src=x>', status="started")
    text = ask(live, "/now")[1]
    assert "<script" not in text
    assert "<img" not in text


def test_nothing_can_be_written_and_no_other_site_can_ask(live):
    assert ask(live, "/", method="POST")[0] == 501
    assert ask(live, "/", method="DELETE")[0] == 501
    assert ask(live, "/../arena.db")[0] == 404
    assert ask(live, "/", host=f"evil.example:{live.server_port}")[0] == 403
    status, text, headers = ask(live, "/", method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000
    assert live.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_said_in_one_line(made_up):
    live = Site(made_up.log)
    with LiveServer(live, 0) as first, pytest.raises(ArenaError, match="choose another --port"):
        LiveServer(live, first.server_port)


def test_a_fault_of_the_log_is_an_answer_and_the_next_one_may_be_well(made_up, monkeypatch):
    live = Site(made_up.log)

    def locked(*args, **options):
        raise ArenaError("log x: another process has held its lock for too long")

    with served(made_up.log) as server:
        server.site = live
        monkeypatch.setattr(live.live, "_fates", locked)
        status, text, headers = ask(server, "/")
        assert (status, headers["Refresh"]) == (503, "3")
        assert text == "log x: another process has held its lock for too long"
        monkeypatch.undo()
        assert ask(server, "/state")[0] == 200


def test_a_log_that_is_not_there_or_locked_is_said_in_one_line(tmp_path, made_up, monkeypatch):
    monkeypatch.setattr("arena.cli.view.PATIENCE", 0.05)
    missing = CliRunner().invoke(app, ["view", "--log", str(tmp_path / "none.db")])
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    assert "there is no log at" in missing.stderr
    assert not (tmp_path / "none.db").exists()
    made_up.play()
    made_up.log.close()
    holder = sqlite3.connect(made_up.log.where, isolation_level=None)
    try:
        holder.execute("PRAGMA journal_mode = DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        locked = CliRunner().invoke(app, ["view", "--log", made_up.log.where, "--port", "0"])
    finally:
        holder.close()
    assert (locked.exit_code, locked.stderr.count("\n")) == (1, 1)
    assert "another process has held its lock for too long" in locked.stderr


def test_the_command_says_where_it_serves_and_ends_with_ctrl_c(made_up, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveServer, "serve_forever", interrupted)
    done = CliRunner().invoke(app, ["view", "--log", made_up.log.where, "--port", "0"])
    assert done.exit_code == 0
    assert re.match(r"http://127\.0\.0\.1:\d+/ shows .*arena\.db; Ctrl-C stops it\n", done.stdout)


@pytest.mark.parametrize("status", ["1000000000", "", "<b>"])
def test_an_ending_that_a_damaged_log_tells_is_shown_as_it_is(made_up, live, status):
    made_up.play(status="error")
    with made_up.log.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE episode SET status = ?", (status,))
    code, text, _ = ask(live, "/report")
    assert (code, "<b>" in text.split("now;")[-1][:40]) == (200, False)


def test_benign_images_without_a_right_answer_are_in_no_share(made_up):
    id = made_up.play(plan={"traffic": {"benign": 0.25, "ood_share": 0.5}})
    row, rounds = made_up.log.episode(id), made_up.log.rounds(id)
    told = [replace(one, benign_answered=125, benign_correct=60) for one in rounds]
    log = SimpleNamespace(rounds=lambda _: told, checkpoints=made_up.log.checkpoints)
    assert {step.right for step in course_of(log, row, ()).steps} == {"96.0"}
