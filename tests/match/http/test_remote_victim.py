"""A victim elsewhere: the same game as in process, and a ledger that agrees with its server."""

import json

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("httpx")
fastapi = pytest.importorskip("fastapi")

from agents.attackers.noise import Noise  # noqa: E402
from agents.base import ArchitectureGuess  # noqa: E402
from arena.analysis.episode_data import gather  # noqa: E402
from arena.cli.app import app  # noqa: E402
from arena.cli.serve import open_episodes  # noqa: E402
from arena.http import patient  # noqa: E402
from arena.http.channels import AdapterChannel  # noqa: E402
from arena.http.server import Account, create_app  # noqa: E402
from arena.log.checking import check  # noqa: E402
from arena.log.store import Log  # noqa: E402
from arena.replay.verify import verify  # noqa: E402
from arena.report.findings import findings  # noqa: E402
from arena.report.plots.exits import draw_exits  # noqa: E402
from arena.runner import match  # noqa: E402
from arena.runner.progress import Watcher  # noqa: E402
from arena.runner.saves.schedule import Saving  # noqa: E402
from arena.runner.setup import Setup  # noqa: E402
from arena.scenario import Scenario  # noqa: E402
from arena.scenario.reading import merge  # noqa: E402
from arena.scenario.settings import settings_of  # noqa: E402
from envs.errors import ArenaError, DataMissing, VictimUnreachable  # noqa: E402
from tests.match.http.conftest import running  # noqa: E402
from tests.match.http.flaky import CLIENT, COUNTED, FlakyServer  # noqa: E402

BUDGET = 300
COUNTS = [True, pytest.param(False, marks=pytest.mark.slow)]
"""Whether the server tells its count."""

ATTACK = {"use": "noise", "params": {"batch": 20}}


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log.db") as store:
        yield store


@pytest.fixture
def table(tiny):
    """The tables of the same scenario, with one victim or another."""

    def make(victim=None, **changes):
        played = {"threat": {"budget": BUDGET}, "traffic": {"benign": 0.0}, "attackers": [ATTACK]}
        raw = tiny(**played | {"victim": {"seed": 0}} | changes)
        return raw if victim is None else {**raw, "victim": victim}

    return make


@pytest.fixture
def adapter(tmp_path):
    def write(counted=COUNTED):
        path = tmp_path / "client.py"
        path.write_text(CLIENT.format(counted=counted))
        return f"{path}:MyClient"

    return write


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(patient, "LONGEST_WAIT", 0.01)


def play(raw, log, **options):
    """Play a scenario; returns its only row."""
    scenario = Scenario.parse(raw)
    scenario.check()
    (row,) = match.play(scenario, log=log, **options).episodes
    return row


def reference(raw):
    return Setup(torch.device("cpu"), Watcher()).set_up_defender(plan(raw)).reference


def plan(raw):
    return Scenario.parse(raw).plans()[0]


def other_protocol(answer, counted):
    app = fastapi.FastAPI()

    @app.post("/x")
    async def predict(request: fastapi.Request):
        images = await request.json()
        counted.append(len(images))
        return [{"scores": row} for row in answer(torch.tensor(images)).tolist()]

    return app


def test_one_victim_by_three_ways_gives_one_clone_and_one_ledger(table, adapter, log, monkeypatch):
    here = play(table(), log)
    raw = table()
    episodes = open_episodes(
        Scenario.parse(raw), plan(raw), {"eve": BUDGET}, log, device="cpu", watcher=Watcher()
    )
    game = episodes["eve"].game
    monkeypatch.setenv("VICTIM_KEY", "s3cr3t")
    with running(create_app({"s3cr3t": Account("eve", game)})) as url:
        victim = {"use": f"{url}/v2/models/victim", "api_key_env": "VICTIM_KEY"}
        served = play(table(victim), log)
    counted = []
    with running(other_protocol(reference(raw).posteriors, counted)) as url:
        port = int(url.rpartition(":")[2])
        victim = {"use": adapter(""), "params": {"port": port}, "permission": "my own server"}
        behind = play(table(victim), log)
    assert [row.error for row in (here, served, behind)] == [None] * 3
    for row in (served, behind):
        for name in ("clone_accuracy", "queries_used", "query_digest", "answer_digest"):
            assert getattr(row, name) == getattr(here, name), name
    theirs = episodes["eve"].finish()
    assert theirs.queries_used == sum(counted) == here.queries_used == BUDGET
    # what was asked over the wire is what the server has logged
    assert (theirs.query_digest, theirs.answer_digest) == (here.query_digest, here.answer_digest)
    assert "s3cr3t" not in json.dumps(served.plan)


def test_what_is_not_known_is_empty_and_the_log_is_sound(table, adapter, log):
    server = FlakyServer(reference(table()).posteriors, faults=["ok"] * 99)
    victim = {"use": adapter(), "params": {"port": server.port}, "permission": "mine",
              "architecture": {"family": "cnn"}}  # fmt: skip
    row = play(table(victim), log)
    server.close()
    unknown = ("victim_accuracy", "clone_fidelity", "served_accuracy", "distortion_mean",
               "full_macs", "attack_macs_mean", "attack_compute_share", "attack_seconds_mean",
               "harden_seconds", "exit_names")  # fmt: skip
    assert {name: getattr(row, name) for name in unknown} == dict.fromkeys(unknown)
    for bucket in log.rounds(row.id):
        assert (bucket.attack_exits, bucket.attack_macs, bucket.attack_seconds) == (None,) * 3
    assert row.clone_accuracy is not None
    assert [fault for fault in check(log) if fault.kind == "fault"] == []
    shown = CliRunner().invoke(app, ["episodes", "show", row.id, "--log", log.where]).output
    assert shown.count("unknown: the victim runs elsewhere") == 4
    data = gather(log, [row.id])
    assert draw_exits(data) is None
    told = " ".join(one.text for finding in findings(data) for one in finding.answers)
    assert "not measured, or not known" in told
    assert "took 0" not in told
    with pytest.raises(ArenaError, match="would ask, and charge, every query again"):
        verify(log, row.id, trust_plugins=True)
    assert server.counted == BUDGET


@pytest.mark.parametrize("counts", COUNTS)
def test_a_flaky_server_has_counted_what_is_charged(
    table, adapter, log, tmp_path, monkeypatch, counts
):
    server = FlakyServer(reference(table()).posteriors)
    monkeypatch.setenv("VICTIM_KEY", "s3cr3t")
    victim = {"use": adapter(COUNTED if counts else ""), "params": {"port": server.port},
              "permission": "mine", "api_key_env": "VICTIM_KEY", "rate": 1000}  # fmt: skip
    row = play(table(victim), log)
    server.close()
    assert (row.status, row.error) == ("success", None)
    assert server.restarts >= 2
    assert server.keys == {"s3cr3t"}
    if counts:
        assert row.queries_used == server.counted
    else:  # what was lost may have been counted, and stays charged
        assert server.counted <= row.queries_used <= BUDGET
    assert server.answered == row.attack_answered < row.queries_used
    (told,) = [event for event in log.events(row.id) if event.kind == "remote-victim"]
    assert told.data["charged"] == row.queries_used
    assert [fault for fault in check(log) if fault.kind == "fault"] == []
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("**/*") if file.is_file())
    assert row.id.encode() in kept
    assert b"s3cr3t" not in kept


@pytest.fixture
def break_off(monkeypatch):
    """Let Ctrl-C come after so many requests, when the server has answered and counted."""

    def at(requests):
        real, left = AdapterChannel.ask, [requests]

        def ask(self, images):
            answer = real(self, images)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return answer

        monkeypatch.setattr(AdapterChannel, "ask", ask)

    return at


@pytest.mark.parametrize("counts", COUNTS)
def test_what_was_asked_after_the_save_stays_charged(table, adapter, log, break_off, counts):
    server = FlakyServer(reference(table()).posteriors, faults=[])
    victim = {"use": adapter(COUNTED if counts else ""), "params": {"port": server.port},
              "permission": "mine"}  # fmt: skip
    break_off(5)
    always = Saving(seconds=1e-9, share=1e9)
    assert play(table(victim), log, saving=always).queries_used == server.counted == 100
    break_off(0)
    row = play(table(victim), log, saving=always)
    server.close()
    assert (row.status, row.queries_used, row.attack_answered) == ("success", BUDGET, BUDGET - 20)
    assert server.counted == BUDGET
    assert [event.kind for event in log.events(row.id)] == ["resumed", *["remote-victim"] * 2]
    assert "20 images that were asked after the save stay charged" in log.events(row.id)[1].message


def test_a_victim_that_is_gone_ends_the_episode_and_the_save_waits_for_it(
    table, adapter, log, monkeypatch
):
    server = FlakyServer(reference(table()).posteriors, faults=["ok"] * 4 + ["restart"])
    raw = table({"use": adapter(), "params": {"port": server.port}, "permission": "mine"})
    monkeypatch.setattr(FlakyServer, "_restart", FlakyServer.close)
    saving = Saving(seconds=1e-9, share=1e9)
    gone = play(raw, log, saving=saving)
    assert gone.status == "error"
    assert "after 20 tries" in gone.error
    assert gone.queries_used == server.counted == 100
    with pytest.raises(VictimUnreachable, match="after 20 tries"):
        play(raw, log, saving=saving)
    server._open(server.port)
    back = play(raw, log, saving=saving)
    server.close()
    assert (back.id, back.status) == (gone.id, "success")
    assert back.queries_used == server.counted == BUDGET


def test_an_episode_is_known_by_its_address_and_not_by_how_it_is_asked(table):
    url = "http://127.0.0.1:9/v2/models/victim"
    first = plan(table({"use": url}))
    how = {"api_key_env": "KEY", "rate": 3, "batch": 8, "timeout": 9, "permission": "they said so"}
    again = plan(table({"use": url, **how}))
    assert first.hash == again.hash
    assert settings_of(first.model_dump()) == settings_of(again.model_dump())
    others = ({"use": url + "2"}, {"use": url, "architecture": {"depth": 18}})
    assert len({first.hash, *(plan(table(one)).hash for one in others)}) == 3


def test_guesses_are_scored_against_what_the_owner_says(table, adapter, log):
    server = FlakyServer(reference(table()).posteriors, faults=[])
    victim = {"use": adapter(), "params": {"port": server.port}, "permission": "mine",
              "architecture": {"depth": 5}}  # fmt: skip
    raw = table(victim, attackers=[{"use": f"{__file__}:Guessing"}])
    row = play(raw, log)
    server.close()
    told = {one.attribute: (one.truth, one.correct) for one in log.inferences(row.id)}
    assert told["depth"] == (5, True)
    assert told["family"] == told["exits"] == (None, None)


class Guessing(Noise):
    def attack(self, oracle, kit):
        super().attack(oracle, kit)
        self.inferred = ArchitectureGuess(family="vgg", depth=5, exits=3)


LOCAL, AWAY = "http://localhost:8/v2/models/a", "https://example.org/v2/models/a"
REFUSED = {
    "no permission": ({"use": AWAY}, {}, "permission is missing: https://example.org"),
    "a blank permission": ({"use": AWAY, "permission": " "}, {}, "victim.permission"),
    "a name that ends like a loopback": (
        {"use": "http://127.0.0.1.example.org/v2/models/a"}, {}, "permission is missing"),
    "a user in the address": (
        {"use": "http://me:pw@localhost/v2/models/a"}, {}, "//localhost/v2/models/a: expected an "),
    "a key in the address": ({"use": f"{LOCAL}?key=x"}, {}, "api_key_env"),
    "an address of no model": ({"use": "http://localhost:8/predict"}, {}, "/v2/models/NAME"),
    "an address of no port": ({"use": "http://localhost:x/v2/models/a"}, {}, "no address"),
    "a key itself": ({"use": LOCAL, "api_key_env": "sk-123"}, {}, "victim.api_key_env"),
    "weights": ({"use": LOCAL, "weights": "w.pt", "seed": 1}, {}, "no weights, seed: a victim"),
    "params of an address": ({"use": LOCAL, "params": {"a": 1}}, {}, "expected no params"),
    "permission of a name": ({"use": "resnet10", "permission": "me"}, {}, "client.py:MyClient"),
    "a rate of a victim here": ({"use": "resnet10", "rate": 3}, {}, "expected no rate: only a"),
    "an odd rate": ({"use": LOCAL, "rate": 0}, {}, "victim.rate"),
    "benign users": ({"use": LOCAL}, {"traffic": {"benign": 0.5}}, "users of its own"),
    "modelled latency": ({"use": LOCAL}, {"threat": {"latency": "virtual"}}, "threat.latency"),
    "a defence that hardens": (
        {"use": LOCAL}, {"defenders": [{"defence": "dnf"}]},
        "defenders.dnf: 'dnf' needs the victim itself"),
    "a defence that looks at it": (
        {"use": LOCAL}, {"defenders": [{"defence": "modelguard-s"}]}, "needs the victim itself"),
    "an adapter that is not there": (
        {"use": "no.py:Client", "permission": "me"}, {}, "no file no.py"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_told_in_one_line(table, case):
    victim, changes, words = REFUSED[case]
    with pytest.raises(ArenaError) as caught:
        Scenario.parse(merge(table(victim), changes)).check()
    (line,) = str(caught.value).splitlines()
    assert words in line
    assert "pw" not in line
    assert "key=x" not in line


def test_a_check_asks_nothing_and_allows_defences_of_answers(table):
    brought = ({"defence": "truncation", "params": {"top": 1}}, {"defence": "reverse-sigmoid"},
               {"defence": "randp"}, {"defence": "undefended"})  # fmt: skip
    victim = {"use": AWAY, "permission": "the owner, by letter"}
    Scenario.parse(table(victim, defenders=list(brought))).check()


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(table, log, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(DataMissing, match="NO_KEY is not set; export NO_KEY=KEY"):
        play(table({"use": LOCAL, "api_key_env": "NO_KEY"}), log)
