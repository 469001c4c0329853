"""What is charged of a victim elsewhere, and how its answers are read."""

import json
from urllib.error import HTTPError

import numpy as np
import pytest
import torch

from arena.http.channels import AdapterChannel, Form, RequestFailed
from arena.http.patient import TRIES, PatientChannel
from arena.http.query_ledger import QueryLedger
from arena.http.remote_victim import RemoteVictim
from envs.errors import ArenaError, BudgetExhausted, ScenarioError, VictimUnreachable

LOST, BUSY = RequestFailed("gone"), RequestFailed("busy", status=429, wait=7.0)


def ledger_of(charged, doubtful, *, ahead=0):
    ledger = QueryLedger(100)
    ledger.settle(ahead)
    ledger.charge(charged)
    ledger.doubt(doubtful)
    return ledger


@pytest.mark.parametrize(
    ("doubtful", "counted", "charged", "unknown"),
    [
        (10, 30, 30, 0),  # it has counted all
        (10, 20, 20, 0),  # nothing of what is in doubt
        (10, 25, 25, 0),
        (10, None, 30, 0),  # it does not tell
        (10, 45, 30, 15),  # another client asks with the same key
        (10, 3, 30, 0),  # it has forgotten
    ],
)
def test_a_ledger_settles_within_what_is_in_doubt(doubtful, counted, charged, unknown):
    for ahead in (0, 1000):
        ledger = ledger_of(30, doubtful, ahead=ahead)
        ledger.settle(None if counted is None else counted + ahead)
        assert (ledger.charged, ledger.unknown, ledger.doubtful) == (charged, unknown, 0)
        if counted is not None:  # from here on it agrees with the server
            ledger.charge(5)
            ledger.doubt(5)
            ledger.settle(counted + ahead + 5)
            assert ledger.charged == charged + 5


@pytest.mark.parametrize(("counted", "charged"), [(50, 50), (43, 43), (None, 50), (90, 50)])
def test_what_was_asked_after_a_save_is_in_doubt(counted, charged):
    saved = ledger_of(30, 0).state()
    again = QueryLedger(100)
    again.restore(saved, 50)
    again.settle(counted)
    assert again.charged == charged


def test_what_was_asked_after_a_save_stays_charged_where_the_server_told_no_count_before_it():
    again = QueryLedger(100)
    again.restore({"charged": 30, "ahead": None}, 50)
    again.settle(50)
    assert again.charged == 50


class Scripted:
    """A channel that fails as it is told, and counts as servers do."""

    def __init__(self, *script, tells=True):
        self.script, self.count, self.tells = list(script), 0, tells
        self.asked = []

    def ask(self, images):
        self.asked.append(len(images))
        fault = self.script.pop(0) if self.script else None
        if fault not in (BUSY,) and not (fault and not fault.is_sent):
            self.count += len(images)
        if fault is not None:
            raise fault
        return np.full((len(images), 4), 0.25, np.float32)

    def counted(self):
        return self.count if self.tells else None

    def close(self):
        pass


def line_of(channel, limit=100, **options):
    slept = []
    line = PatientChannel(channel, QueryLedger(limit), sleep=slept.append, **options)
    line.open()
    return line, slept


IMAGES = np.zeros((10, 1, 2, 2), np.float32)


@pytest.mark.parametrize("tells", [True, False])
def test_every_request_is_charged_as_the_server_counts_it(tells):
    unsent = RequestFailed("no", is_sent=False)
    channel = Scripted(LOST, BUSY, unsent, None, LOST, tells=tells)
    line, slept = line_of(channel)
    charged = []
    line.on_charge = charged.append
    line.ask(IMAGES)
    line.ask(IMAGES)
    assert line.ledger.charged == channel.count == 40
    assert charged[0] == 10  # before the first request
    assert max(charged) <= 100
    assert slept == [0.25, 7.0, 1.0, 0.25]


def test_what_lost_requests_cost_is_never_more_than_the_budget():
    channel = Scripted(*[LOST] * 9, tells=False)
    line, _ = line_of(channel, limit=35)
    with pytest.raises(BudgetExhausted, match="30 of 35 charged"):
        line.ask(IMAGES)
    assert line.ledger.charged == channel.count == 30


def test_it_gives_up_after_some_tries_and_at_once_where_it_is_refused():
    for failed, tries in ((RequestFailed("x", is_sent=False), TRIES),
                          (RequestFailed("x", status=401), 1)):  # fmt: skip
        channel = Scripted(*[failed] * 30, tells=False)
        line, _ = line_of(channel)
        with pytest.raises(VictimUnreachable):
            line.ask(IMAGES)
        assert (len(channel.asked), line.ledger.charged) == (tries, 0)


def test_rate_and_batch_hold():
    now = [0.0]
    channel = Scripted()
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    line = PatientChannel(channel, QueryLedger(100), rate=4, batch=4,
                          clock=lambda: now[0], sleep=sleep)  # fmt: skip
    assert line.ask(IMAGES).shape == (10, 4)
    assert channel.asked == [4, 4, 2]
    assert slept == pytest.approx([0.25, 0.25])


def victim_of(answer, labels="soft"):
    class Client:
        def predict(self, images):
            return answer

    line = PatientChannel(AdapterChannel("Client", Client()), QueryLedger(100))
    return RemoteVictim(line, "Client", num_classes=3, image_shape=(1, 2, 2), labels=labels,
                        device=torch.device("cpu"))  # fmt: skip


READ = {
    "posteriors": ([[0.5, 0.25, 0.25]], [0.5, 0.25, 0.25]),
    "half floats": (np.array([[0.333, 0.333, 0.333]], np.float16), [1 / 3] * 3),
    "logits": ([[0.0, 0.0, np.log(2.0)]], [0.25, 0.25, 0.5]),
    "two digits": ([[0.33, 0.33, 0.33]], [1 / 3] * 3),
    "labels": ([2], [0.0, 0.0, 1.0]),
    "labels in a column": ([[1]], [0.0, 1.0, 0.0]),
}


@pytest.mark.parametrize("case", READ)
def test_answers_are_read_by_what_they_are(case):
    answer, row = READ[case]
    victim = victim_of(answer, labels="hard" if "labels" in case else "soft")
    read = victim.posteriors(torch.zeros(1, 1, 2, 2))
    assert read.dtype == torch.float32
    assert read[0].tolist() == pytest.approx(row, abs=1e-6)
    other = [[1.0, 0.0, 0.0]] if "labels" in case else [2]
    victim.line._channel._ask = lambda images: other
    with pytest.raises(ArenaError, match="after"):  # another kind than before
        victim.posteriors(torch.zeros(1, 1, 2, 2))
    if case in ("half floats", "two digits"):
        assert float(read.sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("digits", [2, 3, 4, 7])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_posteriors_are_posteriors_however_they_are_rounded(digits, classes):
    exact = np.random.default_rng(0).dirichlet(np.full(classes, 0.3), 64)
    victim = victim_of(np.round(exact, digits))
    victim._classes = classes
    read = victim.posteriors(torch.zeros(64, 1, 2, 2)).numpy()
    assert np.abs(read - exact).sum(1).max() < 2 * classes * 10.0**-digits
    assert np.abs(read.sum(1) - 1).max() < 2e-4


def test_rows_that_could_be_percentages_are_told_of_once():
    victim, told = victim_of([[70.0, 20.0, 10.0]]), []
    victim.line.note = told.append
    for _ in range(2):
        victim.posteriors(torch.zeros(1, 1, 2, 2))
    (line,) = told
    assert "rows that sum to 100 to 100: they are taken for logits" in line


@pytest.mark.parametrize("answer", [[[0.5, 0.5], [1.0]], [{}, []]])
def test_what_is_no_array_is_told_in_one_line(answer):
    with pytest.raises(ArenaError, match="Client") as told:
        victim_of(answer).posteriors(torch.zeros(2, 1, 2, 2))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "answer", [[3], [-1], [[1, 2, 3]], [[0.5, 0.5]], [[np.nan, 0.5, 0.5]], "cat", [[0.5]], None]
)
def test_an_answer_that_cannot_be_read_is_told(answer):
    with pytest.raises(ArenaError, match="Client answered"):
        victim_of(answer, labels="hard").posteriors(torch.zeros(1, 1, 2, 2))


def test_labels_where_posteriors_are_played_are_told():
    with pytest.raises(ArenaError, match="tells labels alone"):
        victim_of([1]).posteriors(torch.zeros(1, 1, 2, 2))


class TwoMethods:
    def ask(self, images):
        pass

    def say(self, images):
        pass


class Failing:
    def __init__(self, error):
        self._error = error

    def ask(self, images):
        raise self._error


def test_an_adapter_has_one_method_and_its_faults_are_told_without_the_key():
    with pytest.raises(ScenarioError, match=r"one public method.*got ask, say"):
        AdapterChannel("Two", TwoMethods())
    http = HTTPError("http://x/?key=k3y", 503, "k3y busy", {"Retry-After": "4"}, None)
    for error, status, is_sent, wait in (
        (http, 503, True, 4.0),
        (TimeoutError("k3y"), None, True, None),
        (ConnectionRefusedError("k3y"), None, False, None),
    ):
        with pytest.raises(RequestFailed) as caught:
            AdapterChannel("Failing", Failing(error), secret="k3y").ask(IMAGES)
        failed = caught.value
        assert (failed.status, failed.is_sent, failed.wait) == (status, is_sent, wait)
        assert "k3y" not in str(failed)
        assert failed.__suppress_context__
    with pytest.raises(ArenaError, match=r"Failing: KeyError: '\*\*\*'"):
        AdapterChannel("Failing", Failing(KeyError("k3y")), secret="k3y").ask(IMAGES)


def described(shape=(-1, 3, 4, 5), datatype="FP32", outputs=(("p", "FP32", [-1, 7]),)):
    return {
        "inputs": [{"name": "x", "datatype": datatype, "shape": list(shape)}],
        "outputs": [dict(zip(("name", "datatype", "shape"), one, strict=True)) for one in outputs],
    }


def form_of(told):
    return Form(told, "http://x/v2/models/m", image_shape=(3, 4, 5), num_classes=7)


def test_images_are_sent_as_the_model_describes_them():
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    (sent,) = form_of(described()).inputs(images).values()
    np.testing.assert_array_equal(sent, images)
    (sent,) = form_of(described((-1, 4, 5, 3), "UINT8")).inputs(images).values()
    np.testing.assert_array_equal(sent, np.rint(images * 255).transpose(0, 2, 3, 1))
    (sent,) = form_of(described((-1, -1, -1, -1), "FP16")).inputs(images).values()
    assert sent.dtype == np.float16
    several = [("score", "FP32", [-1, 7]), ("remaining", "INT64", [1]), ("label", "INT64", [-1])]
    assert form_of(described(outputs=several)).output == "score"
    assert form_of(described(outputs=several[1:])).output == "label"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "no inputs and outputs"),
        (described((-1, 3, 8, 8)), r"images \(n, 3, 4, 5\)"),
        (described(datatype="BYTES"), "got BYTES"),
        (described(outputs=[("p", "FP32", [-1, 13])]), "as many classes"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_told(told, words):
    with pytest.raises(ScenarioError, match=words):
        form_of(told)


@pytest.mark.parametrize("announced", [["binary_tensor_data"], [], None])
def test_tensors_are_lists_for_a_server_that_announces_no_bytes(announced):
    httpx = pytest.importorskip("httpx")
    from arena.http.client import InferenceClient, ModelChannel

    bodies = []

    def serve(request):
        if request.url.path == "/v2":
            return httpx.Response(404) if announced is None else httpx.Response(
                200, json={"extensions": announced}
            )  # fmt: skip
        bodies.append(request.content)
        answer = {"name": "p", "datatype": "FP32", "shape": [2, 7], "data": [1 / 7] * 14}
        return httpx.Response(200, json={"outputs": [answer]})

    url = "http://x/v2/models/m"
    client = InferenceClient(url, transport=httpx.MockTransport(serve))
    channel = ModelChannel(client, form_of(described()))
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    for _ in range(2):
        assert channel.ask(images).shape == (2, 7)
    if announced:
        assert bodies[0].endswith(images.tobytes())
        return
    (sent,) = json.loads(bodies[0])["inputs"]
    np.testing.assert_array_equal(np.float32(sent["data"]), images.flatten())
