"""`arena serve`: signals, what the log has of each key, the line it tells, accounts."""

import json
import shutil
import signal
import socket
import subprocess
import urllib.request
import zipfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient  # noqa: E402

import arena  # noqa: E402
from agents.base import Defender  # noqa: E402
from arena.cli import serve  # noqa: E402
from arena.cli.app import app as cli  # noqa: E402
from arena.http.protocol import encode  # noqa: E402
from arena.http.remote_oracle import RemoteOracle  # noqa: E402
from arena.http.server import Account, create_app, described  # noqa: E402
from arena.log.checking import check  # noqa: E402
from arena.log.store import Log  # noqa: E402
from arena.runner import serving  # noqa: E402
from envs.errors import ArenaError, BudgetExhausted, PlayerError, QueryError  # noqa: E402
from envs.game.clocks import make_clock  # noqa: E402
from envs.game.extraction_game import ExtractionGame  # noqa: E402
from envs.game.rounds import Countermeasure  # noqa: E402
from envs.nets import registry  # noqa: E402
from envs.seeding import Streams  # noqa: E402
from tests.match.http.conftest import AlwaysSame, running  # noqa: E402
from tests.started import Started  # noqa: E402

VICTIM = "/v2/models/victim"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_the_command_serves_until_a_signal_and_says_who_asked_what(tiny_file, number, code):
    scenario = tiny_file(threat={"budget": 50})
    words = ["serve", str(scenario), "--port", "0", "--key", "eve=20"]
    words += ["--log", str(scenario.with_name("log.db"))]
    with Started(*words, "--quiet") as server:
        url = server.wait_for(r"http://\S+")[0]
        secret = server.wait_for(r"key of eve: (\S+) ")[1]
        with RemoteOracle(url, secret) as oracle:
            assert oracle.remaining == 20
            oracle.query(torch.rand(7, 1, 8, 8))
        server.signal(number)
        out, _ = server.ended(60)
        assert "eve used 7 of 20 queries" in out
        assert server.returncode == code
    with Log.open(scenario.with_name("log.db"), read_only=True) as log:
        assert [(row.status, row.queries_used) for row in log.episodes()] == [("success", 7)]


@pytest.fixture
def served(tiny_file, tmp_path, monkeypatch):
    """Run the command with a client in the place of Ctrl-C; returns what it wrote."""

    def run(client, *words, **changes):
        scenario = tiny_file(threat={"budget": 50}, **changes)

        def ask(app, listening):
            with listening, TestClient(app) as http:
                client(http)

        monkeypatch.setattr(serve, "_run", ask)
        log = ["--log", str(tmp_path / "served.db")]
        command = ["serve", str(scenario), "--port", "0", *log, *words]
        return CliRunner().invoke(cli, command)

    return run


def test_serving_writes_each_key_into_the_log_and_scores_its_clone(served, tmp_path, monkeypatch):
    keys = iter(["red", "blue"])
    monkeypatch.setattr(serve.secrets, "token_urlsafe", lambda length: next(keys))
    scores, handed = [], []

    def client(http):
        for key, count in (("red", 7), ("blue", 20)):
            auth = {"Authorization": f"Bearer {key}"}
            images = {"images": np.full((count, 1, 8, 8), 0.5, np.float32)}
            body, headers = encode({}, "inputs", images)
            for _ in range(2):
                http.post(f"{VICTIM}/infer", content=body, headers=auth | headers)
        clone = registry.build("mlp-small", num_classes=10, image_shape=(1, 8, 8),
                               generator=torch.Generator().manual_seed(0))  # fmt: skip
        written = BytesIO()
        torch.save(clone.state_dict(), written)
        handed.append(clone)
        red = {"Authorization": "Bearer red"}
        wrong = BytesIO()
        torch.save({"x": torch.zeros(1)}, wrong)
        packed = BytesIO()
        with zipfile.ZipFile(written) as plain, zipfile.ZipFile(packed, "w", 8) as archive:
            for one in plain.infolist():
                archive.writestr(one.filename, plain.read(one))
        for file in (b"nonsense", b"PKnonsense", b"", wrong.getvalue(), packed.getvalue()):
            answer = http.post(f"{VICTIM}/clone", content=file, headers=red)
            assert (answer.status_code, "the file" in answer.json()["error"]) == (400, True)
            assert len(answer.json()["error"]) < 400
        scores.append(http.post(f"{VICTIM}/clone", content=written.getvalue(), headers=red).json())
        again = http.post(f"{VICTIM}/clone", content=written.getvalue(), headers=red)
        assert "each key hands over one" in again.json()["error"]
        closed = http.post(f"{VICTIM}/infer", content=body, headers=red | headers)
        assert "the attack is over" in closed.json()["error"]

    told = served(client, "--key", "ann", "--key", "bob=30", keep=["clone"])
    assert told.exit_code == 0, told.output
    assert "inputs: images FP32 [-1, 1, 8, 8]" in told.output
    assert "key of ann: red (50 queries)" in told.output
    with Log.open(tmp_path / "served.db") as log:
        bob, ann = sorted(log.episodes(), key=lambda row: row.attacker, reverse=True)
        faults = [fault.message for fault in check(log) if fault.kind == "fault"]
        rounds = log.rounds(ann.id)
        assert "clone" not in [file.kind for file in log.artifacts(bob.id)]
    with arena.open_log(tmp_path / "served.db") as log:
        kept = log.clone(ann.id)
    assert (ann.kind, ann.status, ann.queries_used, ann.attack_answered) == (
        "served", "success", 14, 14
    )  # fmt: skip
    assert (ann.clone_accuracy, ann.clone_fidelity) == tuple(scores[0].values())
    assert 0 < ann.clone_accuracy < 0.4
    some = torch.rand(5, 1, 8, 8)
    assert torch.equal(kept(some), handed[0].eval()(some))
    assert ann.victim_accuracy == ann.served_accuracy > 0.2
    assert sum(bucket.attack_answered for bucket in rounds) == 14
    assert rounds[-1].query_digest == ann.query_digest
    assert (bob.queries_used, bob.budget, bob.clone_accuracy) == (20, 30, None)
    assert faults == []
    assert f"bob used 20 of 30 queries, and handed over no clone ({bob.id})" in told.output


class Stumbling(Defender):
    def act(self, view):
        if len(view.images) == 3:
            raise PlayerError("out of order")
        return Countermeasure()

    def notes(self):
        raise RuntimeError("no notes")


def test_a_defender_that_fails_at_the_end_ends_each_keys_episode_as_an_error(served, tmp_path):
    brought = [{"use": f"{__file__}:Stumbling", "defence": "undefended"}]
    told = served(lambda http: None, "--key", "ann", "--key", "bob", defenders=brought)
    assert told.exit_code == 1
    assert "bob used 0 of 50 queries" in told.output
    with Log.open(tmp_path / "served.db") as log:
        rows = log.episodes()
    assert [(row.status, row.error) for row in rows] == [("error", "RuntimeError: no notes")] * 2


def test_a_port_in_use_leaves_no_episode(served, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = served(lambda http: pytest.fail("served"), "--port", port)
    assert "use another --port" in told.output
    with Log.open(tmp_path / "served.db") as log:
        assert log.episodes() == []


def curled(line):
    """Do what a line for a shell asks of curl, without curl; returns the answer."""
    seen = subprocess.run(["bash", "-c", f'curl() {{ printf "%s\\0" "$@"; }}; {line}'],
                          capture_output=True, text=True, check=True)  # fmt: skip
    silent, url, h, header, d, body, _ = seen.stdout.split("\0")
    assert (silent, h, d) == ("-s", "-H", "-d")
    asked = urllib.request.Request(url, body.encode(), dict([header.split(": ")]))
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.read()


def by_curl(line):
    return subprocess.run(line, shell=True, capture_output=True, timeout=60).stdout


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@pytest.mark.parametrize("ask", [curled, pytest.param(by_curl, marks=needs_curl)])
def test_the_command_that_serving_tells_asks_an_image(tiny_file, table, ask):
    account = Account("red", table.new_game(AlwaysSame(), Streams(0)))
    with running(create_app({"red": account})) as url:
        told = ask(serve._curl(url, "red", described(account)["inputs"][0]))
    (posteriors, *_) = json.loads(told)["outputs"]
    assert sum(posteriors["data"]) == pytest.approx(1, abs=1e-5)
    assert account.game.used == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--key", "eve", "--key", "eve=3"], "eve is there twice"),
        (["--key", "eve=0"], "a whole number above 0"),
        (["--defender", "dnf"], "no defender of this scenario named 'dnf'"),
        (["--set", "victim={use = 'http://127.0.0.1:9/v2/models/a'}", "--set", "traffic.benign=0"],
         "served elsewhere already"),
        (["--set", 'keep=["clone"]', "--log", "sqlite://"], "keeps files beside the log"),
        (["--set", 'record="queries"', "--log", "sqlite://"], "keeps files beside the log"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_told_in_one_line(served, words, told):
    answer = served(lambda http: pytest.fail("served"), *words)
    assert answer.exit_code != 0
    assert told in answer.output
    assert "Traceback" not in answer.output


def test_each_account_of_a_name_has_a_key_and_all_play_one_game(table):
    threat = replace(table.threat, latency_visible=False, accounts=3, account_budget=40)
    game = ExtractionGame(
        threat, table.deployed_defences, AlwaysSame(), clock=make_clock("none", Streams(0)),
        streams=Streams(0),
    )  # fmt: skip
    keys = ["red", "blue", "green"]
    app = create_app({key: Account(key, game, number) for number, key in enumerate(keys)})
    images = torch.rand(50, *threat.image_shape, generator=torch.Generator().manual_seed(0))
    with running(app) as url, RemoteOracle(url, keys, account_policy="round-robin") as oracle:
        assert (oracle.threat.accounts, oracle.threat.account_budget) == (3, 40)
        with RemoteOracle(url, "red") as alone:
            assert (alone.remaining, oracle.remaining) == (40, 100)
        response = oracle.query(images)
        assert game.charged_by_account == (17, 17, 16)
        victim = game.deployed_defences[0].victim
        assert torch.allclose(response.posteriors, victim.posteriors(images), atol=1e-6)
        oracle.query(images[:20], account=2)
        assert (game.charged_by_account, oracle.remaining) == ((17, 17, 36), 30)
        with pytest.raises(QueryError, match="asked for 5 answers with 4 of the 40 of account 2"):
            oracle.query(images[:5], 2)
        with RemoteOracle(url, "green") as alone:  # a client that knows its own key alone
            with pytest.raises(QueryError, match="with 4 of the 40 of account 2 left"):
                alone.query(images[:5])
            alone.query(images[:4])
        with pytest.raises(BudgetExhausted):
            oracle.query(images[:31])
        with pytest.raises(ArenaError, match="expected 1 to 3 keys, one for each account"):
            RemoteOracle(url, [*keys, "red"])
    assert game.charged_by_account == (17, 17, 40)


def test_the_command_gives_each_account_a_key_and_the_log_has_their_charges(
    served, tmp_path, monkeypatch
):
    keys = iter(["red", "blue"])
    monkeypatch.setattr(serve.secrets, "token_urlsafe", lambda length: next(keys))

    def client(http):
        body, headers = encode({}, "inputs", {"images": np.full((7, 1, 8, 8), 0.5, np.float32)})
        for key in ("red", "blue", "blue"):
            auth = {"Authorization": f"Bearer {key}"}
            http.post(f"{VICTIM}/infer", content=body, headers=auth | headers)
        counted = http.get(f"{VICTIM}/stats", headers=auth).json()["model_stats"][0]
        assert counted["inference_count"] == 14

    words = ["--key", "ann", "--set", "threat.accounts=2", "--set", "threat.account_price=10",
             "--set", "threat.account_budget=30"]  # fmt: skip
    told = served(client, *words)
    assert told.exit_code == 0, told.output
    assert "key of ann, account 1: blue (30 queries)" in told.output
    with Log.open(tmp_path / "served.db") as log:
        (ann,) = log.episodes()
        accounts = [(one.account, one.queries_used) for one in log.accounts(ann.id)]
        assert [fault for fault in check(log) if fault.kind == "fault"] == []
    assert accounts == [(0, 7), (1, 14)]
    assert (ann.queries_used, ann.accounts_used, ann.attack_price) == (21, 2, 41.0)


@pytest.fixture
def asked(served, monkeypatch):
    """Serve anew and ask so many images in each request; returns what it told, and the statuses."""

    def run(counts, *words, then=lambda http, auth: None, **changes):
        statuses = []

        def client(http):
            auth = {"Authorization": "Bearer red"}
            for count in counts:
                images = {"images": np.full((count, 1, 8, 8), 0.5, np.float32)}
                body, headers = encode({}, "inputs", images)
                answer = http.post(f"{VICTIM}/infer", content=body, headers=auth | headers)
                statuses.append(answer.status_code)
            then(http, auth)

        monkeypatch.setattr(serve.secrets, "token_urlsafe", lambda length: "red")
        return served(client, *words, **changes), statuses

    return run


def test_what_a_key_has_used_stays_used_when_the_server_starts_again(asked, tmp_path):
    def used_in_the_log(http, auth):
        with Log.open(tmp_path / "served.db", read_only=True) as log:
            assert log.episodes()[0].queries_used == 7  # while it is served: a kill loses nothing

    told, statuses = asked([7], "--key", "eve=20", then=used_in_the_log)
    assert statuses == [200]
    assert "goes on" not in told.output
    told, statuses = asked([8, 6, 4], "--key", "eve=20")
    assert "eve goes on: it has used 7 of its 20 queries in this log" in told.output
    assert statuses == [200, 403, 200]  # 8 of 13, then 6 with 5 left
    told, statuses = asked([2, 1, 1], "--key", "eve=21")  # more than before
    assert statuses == [200, 403, 403]
    told, statuses = asked([1], "--key", "eve=21")
    assert statuses == []
    assert "eve gets no key: it has used 21 of its 21 queries in this log" in told.output
    assert "no key may ask anything; begin anew with another --key NAME" in told.output
    assert told.exit_code != 0
    # another name, defence or network is another service
    for words in (["--key", "bob=5"], ["--key", "eve=5", "--set", "clone='conv-small'"]):
        told, statuses = asked([5], *words)
        assert statuses == [200], told.output
    with Log.open(tmp_path / "served.db") as log:
        assert [(row.attacker, row.queries_used, row.budget) for row in log.episodes()] == [
            ("eve", 5, 5), ("bob", 5, 5), ("eve", 2, 2), ("eve", 12, 13), ("eve", 7, 20),
        ]  # fmt: skip
        assert [fault for fault in check(log) if fault.kind == "fault"] == []


def test_a_key_whose_clone_was_scored_is_not_served_again_and_others_are(asked):
    clone = registry.build("mlp-small", num_classes=10, image_shape=(1, 8, 8),
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
    written = BytesIO()
    torch.save(clone.state_dict(), written)

    def hand_over(http, auth):
        told = http.post(f"{VICTIM}/clone", content=written.getvalue(), headers=auth)
        assert told.status_code == 200

    asked([3], "--key", "eve", then=hand_over)
    told, statuses = asked([3], "--key", "eve", "--key", "bob")
    assert "eve gets no key: it handed its clone over in this log" in told.output
    assert "key of bob: red (50 queries)" in told.output
    assert statuses == [200]


def test_a_key_that_was_cut_off_stays_cut_off_when_the_server_starts_again(asked):
    pieces = [{"from": 0}, {"from": 4, "cut_off": True}]
    defender = {"use": "schedule", "defence": "undefended", "policy": {"pieces": pieces}}
    told, statuses = asked([4, 4, 4], "--key", "eve", defenders=[defender])
    assert statuses == [200, 403, 403]
    told, statuses = asked([4], "--key", "eve", defenders=[defender])
    assert "eve gets no key: it was cut off in this log" in told.output
    assert statuses == []


def test_of_two_servers_that_look_at_the_log_at_once_one_gets_a_key(asked, tmp_path, monkeypatch):
    late = []

    def at_once(http, auth):
        monkeypatch.setattr(serving, "before", lambda *about: serving.Before())
        late.append(asked([1], "--key", "bob", "--key", "eve"))

    _, statuses = asked([1], "--key", "eve", then=at_once)
    ((told, none),) = late
    assert (statuses, none) == ([200], [])
    assert "another server has begun to serve eve into this log, as episode" in told.output
    assert told.exit_code != 0
    with Log.open(tmp_path / "served.db") as log:
        assert sorted((row.attacker, row.status) for row in log.episodes()) == [
            ("bob", "success"), ("eve", "success"),
        ]  # fmt: skip


def test_a_defender_that_fails_while_it_answers_ends_the_keys_episode_as_an_error(asked, tmp_path):
    brought = [{"use": f"{__file__}:Stumbling", "defence": "undefended"}]
    _, statuses = asked([7, 7, 3, 7], "--key", "eve", defenders=brought)
    assert statuses == [200, 200, 500, 400]
    with Log.open(tmp_path / "served.db") as log:
        (row,) = log.episodes()
        assert (row.status, row.error, row.queries_used) == ("error", "out of order", 14)
        assert [fault for fault in check(log) if fault.kind == "fault"] == []


def test_a_key_that_cannot_go_on_is_refused_in_one_line(asked, tmp_path):
    both = []
    asked([1], "--key", "eve", then=lambda http, auth: both.append(asked([1], "--key", "eve")[0]))
    assert "another server serves eve into this log, as episode" in both[0].output
    assert both[0].exit_code != 0
    accounts = ["--key", "ann", "--set", "threat.accounts=2", "--set", "threat.account_budget=30"]
    assert asked([1], *accounts)[1] == [200]
    told, statuses = asked([1], *accounts)
    assert "what each of its accounts has left is not known; give the key another" in told.output
    assert statuses == []
