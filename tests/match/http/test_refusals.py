"""Refusals over HTTP: what the server says, and what its clients make of it."""

import pytest
import torch

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from starlette.testclient import TestClient  # noqa: E402

from arena.http import remote_oracle  # noqa: E402
from arena.http.channels import Form  # noqa: E402
from arena.http.client import InferenceClient, ModelChannel  # noqa: E402
from arena.http.patient import PatientChannel  # noqa: E402
from arena.http.protocol import encode  # noqa: E402
from arena.http.query_ledger import QueryLedger  # noqa: E402
from arena.http.remote_oracle import RemoteOracle  # noqa: E402
from arena.http.server import Account, create_app  # noqa: E402
from arena.log.checking import check  # noqa: E402
from arena.log.store import Log  # noqa: E402
from arena.runner.match import play  # noqa: E402
from arena.scenario import Scenario  # noqa: E402
from envs.defences.base import Defence  # noqa: E402
from envs.errors import Refused  # noqa: E402
from envs.game.game_factory import GameFactory, GameSpec  # noqa: E402
from envs.game.game_oracle import GameOracle  # noqa: E402
from envs.game.rounds import Countermeasure  # noqa: E402
from envs.seeding import Streams  # noqa: E402
from envs.training.recipes import Recipe  # noqa: E402
from tests.match.http.conftest import running  # noqa: E402

INFER = "/v2/models/victim/infer"


class ByRequest:
    """Decides by the number of the request, from 0, over all accounts."""

    def __init__(self, *measures):
        self.measures, self.asked = list(measures), 0

    def act(self, view):
        self.asked += 1
        return self.measures.pop(0) if self.measures else Countermeasure()

    def learn(self, served):
        pass


REFUSE, CUT_OFF, ANSWER = (
    Countermeasure(refuse=True),
    Countermeasure(cut_off=True),
    Countermeasure(),
)


@pytest.fixture(scope="module")
def factory():
    """Give games of a threat model with two accounts and visible latency."""
    recipe = Recipe(epochs=1, batch=64, learning_rate=0.05)

    def make(**threat):
        spec = GameSpec(victim="mlp-small", recipe=recipe, budget=100, latency="virtual", **threat)
        return GameFactory(spec, [Defence()])

    return make


class Waiting:
    """A clock that stands still until it is told to wait."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def opened(game, clock):
    """Serve a game, a key for each account; gives what talks to it."""
    accounts = {
        f"key{number}": Account("eve", game, number, clock=clock)
        for number in range(game.threat.accounts)
    }
    http = TestClient(create_app(accounts), base_url="http://served")
    transport = httpx.MockTransport(
        lambda request: httpx.Response(
            (answer := http.request(request.method, request.url.raw_path.decode(),
                                    headers=dict(request.headers), content=request.content)
             ).status_code, headers={k: v for k, v in answer.headers.items()
                                     if k in ("retry-after", "inference-header-content-length")},
            content=answer.content,
        )
    )  # fmt: skip
    return http, transport, list(accounts)


def images(count, seed=0):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def asked_raw(http, count, key="key0"):
    body, headers = encode({}, "inputs", {"images": images(count).numpy()})
    return http.post(INFER, content=body, headers={**headers, "Authorization": f"Bearer {key}"})


def test_a_refusal_is_forbidden_and_says_what_it_cost_and_what_is_left(factory):
    game = factory().new_game(ByRequest(REFUSE, CUT_OFF), Streams(0))
    http, _, _ = opened(game, Waiting())
    said = [asked_raw(http, 7) for _ in range(3)]
    assert [one.status_code for one in said] == [403, 403, 403]
    told = [{k: v for k, v in one.json().items() if k != "error"} for one in said]
    assert told == [
        {"refused": "request", "charged": 7, "remaining": 93},
        {"refused": "account", "charged": 7, "remaining": 0},
        {"refused": "account", "charged": 0, "remaining": 0},
    ]
    assert [one.json()["error"] for one in said] == [
        "the server refuses this request of account 0",
        "account 0 is cut off",
        "every account of the attacker is cut off",
    ]


def test_a_key_over_its_rate_is_told_when_to_come_back(factory):
    clock = Waiting()
    game = factory().new_game(ByRequest(Countermeasure(rate=10.0)), Streams(0))
    http, _, _ = opened(game, clock)
    assert asked_raw(http, 30).status_code == 200
    due = game.wait(0)
    assert 2 < due < 3
    for _ in range(2):
        early = asked_raw(http, 5)
        assert (early.status_code, early.headers["Retry-After"]) == (429, "3")
        assert "may ask again in" in early.json()["error"]
        assert game.used == 30  # nothing is charged, and no round is played
    clock.now = due
    assert asked_raw(http, 5).status_code == 200


@pytest.mark.parametrize("refused", ["charged", "free"])
def test_the_same_game_is_played_over_http_and_in_process(factory, monkeypatch, refused):
    """Both accounts, with refusals of both kinds, a rate and a delay on the way."""
    clock = Waiting()
    monkeypatch.setattr(remote_oracle.time, "sleep", clock.sleep)
    measures = [ANSWER, REFUSE, ANSWER, Countermeasure(rate=100.0, delay=0.25), ANSWER, CUT_OFF]
    games, told = factory(accounts=2, refused=refused), []
    for door in ("in process", "http"):
        game = games.new_game(ByRequest(*measures), Streams(0))
        oracle = GameOracle(game)
        if door == "http":
            _, transport, keys = opened(game, clock)
            oracle = RemoteOracle("http://served", keys, transport=transport)
        seen = []
        for number, account in enumerate((None, None, 1, 1, 1, None, None, 0, None)):
            try:
                answer = oracle.query(images(5, number), account)
                seen.append((answer.posteriors.tolist(), answer.latency.tolist()))
            except Refused as refusal:
                seen.append((refusal.account, refusal.is_closed, refusal.charged))
            seen.append(oracle.remaining)
        tally = game.tally()
        told.append((seen, game.charged_by_account, game.closed_accounts, tally.query_digest,
                     tally.answer_digest, tally.attack.refused))  # fmt: skip
    assert told[0] == told[1]
    assert told[0][5] == 10
    assert clock.waits  # the client waited as the server asked


def test_a_server_that_tells_no_more_than_forbidden_has_no_budget_left(factory):
    """403 of a spent budget is no refusal by the defender."""
    game = factory().new_game(ByRequest(), Streams(0))
    http, _, _ = opened(game, Waiting())
    assert "refused" not in asked_raw(http, 101).json()


def test_a_victim_elsewhere_that_refuses_ends_the_line_with_its_own_count(factory):
    for refused, charged in (("charged", 17), ("free", 10)):
        game = factory(refused=refused).new_game(ByRequest(ANSWER, CUT_OFF), Streams(0))
        _, transport, _ = opened(game, Waiting())
        url = "http://served/v2/models/victim"
        client = InferenceClient(url, key="key0", transport=transport)
        form = Form(client.metadata(), url, image_shape=(1, 8, 8), num_classes=10)
        ledger = QueryLedger(100)
        line = PatientChannel(ModelChannel(client, form), ledger, sleep=lambda seconds: None)
        line.open()
        line.ask(images(10).numpy())
        with pytest.raises(Refused, match="cut off") as caught:
            line.ask(images(7).numpy())
        assert caught.value.is_closed
        assert (ledger.charged, game.used) == (charged, charged)


@pytest.mark.parametrize("refused", ["charged", pytest.param("free", marks=pytest.mark.slow)])
def test_an_episode_against_a_victim_that_cuts_it_off_is_a_success(
    tmp_path, tiny, factory, refused
):
    game = factory(refused=refused).new_game(ByRequest(*[ANSWER] * 3, REFUSE, ANSWER), Streams(0))
    with running(create_app({"k": Account("eve", game)})) as url:
        victim = {"use": f"{url}/v2/models/victim", "api_key_env": "OWNER_TEST_KEY"}
        raw = tiny(threat={"budget": 100}, traffic={"benign": 0.0},
                   attackers=[{"use": "noise", "params": {"batch": 20}}])  # fmt: skip
        with pytest.MonkeyPatch.context() as patch, Log.open(tmp_path / "a.db") as log:
            patch.setenv("OWNER_TEST_KEY", "k")
            (row,) = play(Scenario.parse({**raw, "victim": victim}), log=log).episodes
            assert (row.status, row.error) == ("success", None)
            assert row.clone_accuracy is not None
            assert row.queries_used == game.used == (80 if refused == "charged" else 60)
            assert row.attack_answered == 60
            assert check(log) == []
