"""What a player leaves changed in the process is named and set back; what cannot be, is named."""

import os
import subprocess
import sys
import threading
import time
import warnings

import numpy
import pytest
import torch

from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import load
from arena.system.process_state import ProcessState
from arena.system.settings import SETTINGS

LEAVES = {
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)": "handler of SIGTERM",
    "signal.signal(signal.SIGCHLD, lambda *_: None)": "handler of SIGCHLD",
    "os.umask(0o777)": "file mask",
    "os.environ['ARENA_CACHE'] = '/elsewhere'": "environment variable ARENA_CACHE",
    "del os.environ['PATH']": "environment variable PATH",
    "os.environ.clear()": "environment variable PATH",
    "sys.stderr = None": "stream stderr",
    "sys.stdout = io.StringIO()": "stream stdout",
    "sys.excepthook = print": "hook excepthook",
    "threading.excepthook = print": "hook of threads excepthook",
    "sys.settrace(lambda *_: None)": "tracing",
    "sys.setrecursionlimit(3000)": "recursion limit",
    "sys.setswitchinterval(1.0)": "switch interval",
    "sys.set_int_max_str_digits(0)": "digits of a number",
    "gc.disable()": "garbage collection",
    "gc.set_threshold(1)": "garbage thresholds",
    "gc.callbacks.append(print)": "garbage callbacks",
    "locale.setlocale(locale.LC_ALL, 'C')": "locale",
    "(faulthandler.disable if faulthandler.is_enabled() else faulthandler.enable)()":
        "fault handler",
    "socket.setdefaulttimeout(0.001)": "socket time-out",
    "tempfile.tempdir = '/nowhere'": "folder of temporary files tempdir",
    "warnings.showwarning = print": "warnings showwarning",
    "logging.disable(50)": "logging switched off",
    "logging.root.addHandler(logging.NullHandler())": "logging handlers",
    "np.seterr(all='raise')": "NumPy's answer to divide",
    "torch.set_flush_denormal(True)": "denormal numbers",
    "torch.use_deterministic_algorithms(True)": "deterministic algorithms",
    "torch.autocast('cpu').__enter__(); torch.set_autocast_enabled('cpu', False)":
        "depth of autocast",
    "torch.backends.cudnn.enabled = False": "cuDNN",
    "torch.backends.mkldnn.enabled = False": "oneDNN",
    "torch.backends.cuda.enable_math_sdp(False)": "attention by math",
    "del sys.modules['torch.nn.functional']": "module torch.nn.functional",
    "sys.modules['random'] = None": "module random",
    "sys.modules['arena.evaluation.referee'] = types.ModuleType('referee')":
        "module arena.evaluation.referee",
    "sys.modules['no_such_library'] = None": "module no_such_library",
    "torch.nn.functional = types.ModuleType('functional')": "torch.nn.functional",
    "arena.runner.recorder.BUCKETS = 1": "arena.runner.recorder.BUCKETS",
    "agents.base.Attacker.requires = frozenset({'pool'})": "agents.base.Attacker.requires",
}  # fmt: skip


@pytest.fixture
def names():
    """What the statements of `LEAVES` call by name."""
    modules = (
        "agents.base arena.evaluation.referee arena.runner.recorder faulthandler gc io locale "
        "logging os signal socket sys tempfile threading types warnings torch"
    )
    found = {name.partition(".")[0]: __import__(name) for name in modules.split()}
    return {**found, "np": numpy}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("left", LEAVES)
def test_what_is_left_changed_is_named_and_set_back(left, names):
    if left.startswith("locale") and SETTINGS["locale"].read() == "C":
        pytest.skip("it is that locale already")
    before = ProcessState.capture()
    try:
        exec(left, names)
        assert LEAVES[left] in ProcessState.capture().settings_changed_since(before)
    finally:
        before.restore()
    assert ProcessState.capture().settings_changed_since(before) == ()
    assert dict(os.environ).items() >= before.values["environment variable"].items()


def test_filters_and_paths_of_imports_are_set_back_untold(monkeypatch):
    before = ProcessState.capture()
    first = sys.path[0]
    warnings.simplefilter("ignore")
    sys.path[:] = ["/of/a/player", *sys.path[1:]]
    sys.meta_path.clear()
    assert ProcessState.capture().settings_changed_since(before) == ()
    before.restore()
    assert tuple(warnings.filters) == before.values["warning filters"]
    assert sys.path[0] == first
    assert sys.path.pop() == "/of/a/player"  # its module may import from there yet
    assert tuple(sys.meta_path) == before.values["import finders"]


@pytest.mark.timeout(0)  # that sets one itself
def test_an_alarm_that_a_player_set_does_not_ring(names):
    before = ProcessState.capture()
    exec("signal.alarm(600)", names)
    assert "alarm" in ProcessState.capture().settings_changed_since(before)
    before.restore()
    assert names["signal"].alarm(0) == 0


def test_a_thread_that_goes_on_is_named_without_its_number_and_one_that_ends_is_not():
    before, done = ProcessState.capture(), threading.Event()
    threading.Thread(target=time.sleep, args=(0.05,)).start()
    threading.Thread(target=done.wait, name="hog-7").start()
    try:
        assert ProcessState.capture().settings_changed_since(before) == ("thread hog",)
    finally:
        done.set()


LEFT = """
import threading, time
from agents.attackers.noise import Noise


class Leaves(Noise):
    def attack(self, oracle, kit):
        threading.Thread(target=time.sleep, args=(600,)).start()
        super().attack(oracle, kit)
"""


def test_a_run_ends_though_a_player_left_a_thread(tiny_file, tmp_path):
    (tmp_path / "leaves.py").write_text(LEFT)
    scenario = tiny_file(attackers=[{"use": f"{tmp_path / 'leaves.py'}:Leaves"}])
    log = tmp_path / "left.db"
    words = ["-m", "arena.cli", "run", scenario, "--log", log, "-q", "--no-figure"]
    told = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr.splitlines()[-1] == (
        "arena: players left threads running (1); the process ends without them"
    )
    with Log.open(log) as store:
        (row,) = store.episodes()
        (event,) = [one for one in store.events(row.id) if one.kind == "process-state"]
    assert event.data["changed"] == ["thread Thread (sleep)"]


@pytest.mark.parametrize("attacker", ["noise", "dfme", "knockoff"])
def test_players_of_ours_leave_nothing(tiny_file, tmp_path, attacker):
    changes = {"threat": {"pool": {"use": "noise", "params": {"count": 300}}}}
    scenario = load(str(tiny_file(attackers=[{"use": attacker}],
                                  **(changes if attacker == "knockoff" else {}))))  # fmt: skip
    with Log.open(tmp_path / "quiet.db") as log:
        (row,) = play(scenario, log=log).episodes
        assert row.status == "success", row.error
        assert [one.message for one in log.events(row.id) if one.kind == "process-state"] == []
    assert torch.is_grad_enabled()


def test_after_an_autocast_that_was_never_left_weights_are_cast_anew():
    before = ProcessState.capture()
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
    layer = torch.nn.Linear(1, 1, bias=False)
    found = []
    for kept in (True, False):
        if not kept:
            before.restore()
        for weight in (1.0, 2.0):
            torch.nn.init.constant_(layer.weight, weight)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found.append(float(layer(torch.ones(1, 1)).detach()))
    assert found == [1.0, 1.0, 1.0, 2.0]
