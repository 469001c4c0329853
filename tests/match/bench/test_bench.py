"""Claims about the benchmarks: that they run, measure what they say, and tell it."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from agents.base import Attacker
from arena.bench import defence_cost, engines, isolation, serving, suite
from arena.bench.padding import unpadded_shares
from arena.bench.page import markdown
from arena.bench.subjects import MIXES, Planned, eight_exits, mix, plain
from arena.bench.timing import Line, clock, interleave, now, ratios, spread
from arena.cli.app import app
from envs.errors import ArenaError
from envs.nets.exit_cost import profile_by
from envs.nets.multi_exit import with_heads
from envs.nets.staged import GlobalPool, Plan, Staged
from envs.victim.victim import Victim

ROOT = Path(__file__).resolve().parents[3]


def run(*words: str):
    return CliRunner().invoke(app, ["bench", *words])


def test_runs_are_measured_in_turn_and_warm_ups_do_not_count():
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    samples = interleave(runs, rounds=3, warm_up=1, repeats=2)
    assert order == ["a", "a", "b", "b"] * 4
    assert [len(samples[name]) for name in "ab"] == [3, 3]


def test_a_ratio_is_taken_within_a_round():
    # a machine that slows down by ten in the second round changes no ratio
    assert ratios([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == (2.0, 2.0, 2.0)
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0)
    assert ratios([1.0], [2.0], 0.5).median == 0.25


@pytest.mark.parametrize(("value", "at_least", "holds"), [(2, True, True), (2, False, False)])
def test_a_line_knows_whether_it_keeps_its_bound(value, at_least, holds):
    line = Line("group", "name", value, "x", target=1.5, at_least=at_least)
    assert line.holds is holds
    assert Line("group", "name", value, "x").holds is None


def test_mixes_are_what_they_are_called():
    counts = {name: torch.bincount(mix(name, 256, 8), minlength=8) for name in MIXES}
    assert counts["all-last"].tolist() == [0] * 7 + [256]
    assert counts["uniform"].tolist() == [32] * 8
    assert counts["90 % first"][0] == 230
    assert (counts["90 % first"][1:] > 0).all()


def test_a_planned_mix_leaves_where_it_is_planned():
    network = eight_exits(0.0625)
    wanted = mix("uniform", 16, 8)
    victim = Victim(network, rule=Planned(wanted, 8))
    answer = victim.answer(torch.rand(16, 3, 32, 32), generator=torch.Generator())
    assert torch.equal(answer.exits, wanted)


@pytest.mark.slow
def test_serving_is_measured_against_the_whole_network_and_the_limit():
    lines = serving.measure(batches=(2,), rounds=1, width=0.0625, tries=1)
    assert len(lines) == 9
    assert all(line.value > 0 for line in lines)
    speed, limit = lines[3], lines[4]
    assert "uniform" in speed.name
    # the limit is the speed times the mean share of multiply-accumulates, here of an even mix
    shares = Victim(eight_exits(0.0625)).profile.shares
    assert limit.value / speed.value == pytest.approx(sum(shares) / 8, rel=1e-6)


def test_multiplications_with_padding_are_not_counted_where_it_says_so():
    # Of 12 places and taps along a side of 4, 10 meet the map; with stride 2, 5 of 6. A head of
    # one number costs 1 + 2, the classifier 2.
    plan = Plan("two", num_classes=2, image_shape=(1, 4, 4), mean=(0.5,), std=(0.5,))
    stages = [nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, 2, padding=1)]
    backbone = Staged(plan, stages, widths=[1, 1], neck=GlobalPool(), classifier=nn.Linear(1, 2),
                      family="two", depth=2, width=1)  # fmt: skip
    network = with_heads(backbone, exits=[0], hidden=1)
    assert profile_by(network, {}).macs == (144 + 3, 144 + 36 + 3 + 2)
    assert unpadded_shares(network) == ((100 + 3) / (100 + 25 + 3 + 2), 1)


def test_whole_attacks_are_timed_by_the_clock_in_use(monkeypatch):
    class Sleeper(Attacker):
        def attack(self, oracle, kit):
            time.sleep(0.5)

    monkeypatch.setattr(engines, "plain", lambda name, width: plain("mlp-small"))
    assert engines._play(Sleeper(), 1.0, 8, "soft") >= 0.5
    with clock("cpu"):
        assert engines._play(Sleeper(), 1.0, 8, "soft") < 0.4


def test_the_page_of_the_documentation_is_what_was_measured():
    """Written by `arena bench --from benchmarks/results/cpu.json --markdown docs/benchmarks.md`."""
    results = json.loads((ROOT / "benchmarks" / "results" / "cpu.json").read_text())
    assert (ROOT / "docs" / "benchmarks.md").read_text() == markdown(results)


def test_a_quick_bench_writes_json_and_a_page_and_the_page_again(tmp_path):
    save, page, again = (tmp_path / name for name in ("b.json", "b.md", "c.md"))
    words = ("--quick", "--only", "start-up", "--save", str(save), "--markdown", str(page))
    result = run(*words, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    written = json.loads(save.read_text())
    assert json.loads(result.stdout) == written
    assert written["quick"] is True
    assert {"machine", "versions", "git_commit", "seconds", "at"} <= set(written)
    (line,) = written["lines"]
    assert line["group"] == "start-up"
    assert line["value"] > 0
    assert "arena --help" in page.read_text()
    assert run("--from", str(save), "--markdown", str(again)).exit_code == 0
    assert again.read_text() == page.read_text()


def test_a_benchmark_that_is_not_there_is_told_in_one_line():
    result = run("--only", "servin")
    assert result.exit_code == 2
    assert "did you mean 'serving'" in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [("[]", "expected results"), ("{}", "got no 'lines'"), ("x", "got no JSON"), (None, "No such")],
)
def test_results_that_are_none_are_refused_in_one_line(tmp_path, text, told):
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    result = run("--from", str(path))
    assert result.exit_code == 1
    assert told in result.stderr
    assert "Errno" not in result.stderr


def test_one_benchmark_that_fails_loses_nothing(monkeypatch):
    def broken() -> list[Line]:
        raise ArenaError("no such folder")

    line = Line("works", "x", 1.0, "s", target=2.0)
    monkeypatch.setattr(suite, "FULL", {"broken": broken, "works": lambda: [line]})
    results = suite.run(report=lambda text: None)
    assert results["failed"] == {"broken": "no such folder"}
    assert [kept["name"] for kept in results["lines"]] == ["x"]
    assert results["lines"][0]["holds"] is False
    page = markdown(results)
    assert "broken: no such folder" in page
    assert "| x | 1 s | at least 2 | no |" in page


@pytest.mark.slow
def test_the_package_measures_where_there_is_no_checkout(tmp_path):
    # a copy of the packages alone, as an installation has them
    for name in ("arena", "agents", "envs", "scenarios"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["bench", "--quick", "--only", "log", "--json", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "arena.cli", *words], cwd=tmp_path,
                          env=environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert written["failed"] == {}
    assert written["git_commit"] is None
    units = {line["name"]: line["unit"] for line in written["lines"]}
    assert units == {
        "writer": "rows/s", "episode": "rows/s", "listing": "s", "listing json": "s", "frame": "s",
        "check": "s", "report": "s", "merge": "s",
        "megabytes per 1000 episodes": "MB",
    }  # fmt: skip


def test_processor_time_counts_the_children_that_ended():
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    with clock("cpu"):
        began = now()
        time.sleep(0.2)
        slept = now() - began
        subprocess.run([sys.executable, "-c", spin], check=True)
        assert now() - began >= 0.25
    assert slept < 0.15


def test_the_cost_of_a_defence_is_told_in_forward_passes():
    lines = {line.name: line for line in defence_cost.costs("digits", rounds=1, batch=16)}
    assert set(lines) == {f"{name}, digits" for name in defence_cost.CASES}
    macs = {name: float(line.note.split()[0]) for name, line in lines.items()}
    assert macs["randp, digits"] == 0
    assert macs["p-poison-small, digits"] == pytest.approx(0.02, abs=0.005)
    assert macs["p-poison, digits"] == pytest.approx(1)
    assert 1.9 < macs["grad, digits"] < 2.1
    assert macs["meco, digits"] < 0.05
    # a second victim answers beside the first, where the small surrogate hardly counts
    assert lines["p-poison, digits"].value > lines["p-poison-small, digits"].value
    assert lines["randp, digits"].target == 0.1


@pytest.mark.slow
def test_overhead_and_attacks_are_measured():
    from arena.bench import engines, overhead

    lines = overhead.measure(rounds=1, calls=3, batch=4, width=0.0625)
    lines += engines.measure(rounds=1, batch=4, width=0.0625, budget=48)
    names = [line.name for line in lines]
    assert len(names) == len(set(names)) == 9
    assert all(line.value > 0 for line in lines)


@pytest.fixture
def agenda():
    return runpy.run_module("benchmarks.gpu_agenda")


@pytest.mark.slow
def test_the_agenda_of_a_gpu_runs_small_on_a_cpu_and_goes_on_where_it_stopped(
    agenda, tmp_path, capsys
):
    words = ["--device", "cpu", "--small", "--out", str(tmp_path)]
    only = ["--only", "early-exit-8-uniform", "--only", "dfme", "--only", "matrix"]
    assert agenda["main"]([*words, *only]) == 0
    kept = json.loads((tmp_path / "early-exit-8-uniform.json").read_text())
    assert set(kept["figures"]) == {"whole", "masked", "compacted"}
    assert kept["figures"]["masked"]["seconds"] > 0
    assert kept["figures"]["masked"]["waits"] is None
    assert kept["device"] == "cpu"
    dfme = json.loads((tmp_path / "dfme.json").read_text())["figures"]
    assert {"iteration", "victim", "clone step", "generator step"} <= set(dfme)
    assert dfme["iteration"]["minutes"] > 0
    (tmp_path / "dfme.json").write_text("{ cut sho")
    capsys.readouterr()
    assert agenda["main"]([*words, *only]) == 0
    told = capsys.readouterr().out
    assert "dfme: measuring" in told
    assert "early-exit-8-uniform: there already" in told


def test_an_item_of_the_agenda_that_fails_does_not_stop_the_next(agenda, tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("out of memory")

    todo = {"one": broken, "two": lambda: {"seconds": 1.0}}
    monkeypatch.setitem(agenda["main"].__globals__, "items", lambda device, out, small: todo)
    assert agenda["main"](["--device", "cpu", "--out", str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.glob("*.json")] == ["two.json"]


def test_the_agenda_names_every_item_of_a_gpu(agenda, tmp_path):
    names = list(agenda["items"](torch.device("cpu"), tmp_path, small=False))
    assert names[:3] == ["tests", "agreement", "victim-resnet18-8x"]
    assert {"fortress-plain", "fortress-intended-M", "fortress-released-fixed"} < set(names)
    assert "played-dfme" in names
    assert names[-1] == "played-knockoff"
    assert len([name for name in names if name.startswith("early-exit")]) == 12
    assert {"exit-gaps", "matrix-rate", "dfme", "clone-steps"} <= set(names)


def test_an_isolated_iteration_lasts_from_one_pause_to_the_next(monkeypatch):
    moments = iter([0.0, 1.0, 3.0, 5.0, 8.0, 12.0])
    monkeypatch.setattr(
        isolation, "moment", lambda others: isolation.Seconds(at := next(moments), at / 2)
    )
    asked, answering = [], types.SimpleNamespace(query=lambda images, account: asked.append("it"))
    oracle = isolation.PausingOracle(answering, 4, lambda: asked.append("pause"))
    for size in (4, 2, 2, 4, 2, 4):
        oracle.query(torch.zeros(size, 1))
    assert oracle.paused == [(1.0, 0.5), (2.0, 1.0), (4.0, 2.0)]
    assert oracle.between == [(2.0, 1.0), (3.0, 1.5)]
    assert asked == ["pause", "it", "it", "it", "pause", "it", "it", "pause", "it"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="isolated play is for Linux")
def test_isolated_play_is_measured_against_trusted_play():
    wall, processor, start = isolation.measure(subjects=[isolation.SMALLEST], batch=4)
    for ratio in (wall, processor):
        assert (ratio.unit, ratio.target) == ("x", 1.05)
        assert ratio.value > 0
    # the attacker's process does most of the work: without its time, a third would be left
    assert processor.value > 0.5
    assert start.unit == "s"
    assert start.value > 0.1
