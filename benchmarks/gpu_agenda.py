"""Measures on a GPU, item by item, and keeps what was measured: stop it and run it again.

    python -m benchmarks.gpu_agenda                    # every item that is not there yet
    python -m benchmarks.gpu_agenda --only early-exit  # some of them
    python -m benchmarks.gpu_agenda --device cpu --small --out /tmp/agenda

Each item is a file under benchmarks/results/gpu/ with the command, device, versions and commit. An
item is measured anew when its file is missing, or was written by another commit and --renew says
so. Nothing is downloaded.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from arena.bench import early_exit, phases
from arena.bench.subjects import MIXES
from arena.system.provenance import device_name, git_state, versions
from benchmarks import gpu_games
from benchmarks.gpu_games import Item
from envs.atomic_file import whole_file

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
BATCHES = (1, 64, 256, 1024)


def items(device: torch.device, out: Path, *, small: bool) -> dict[str, Item]:
    """Return what there is to measure, in the order of worth.

    Args:
        device: where.
        out: folder of the logs of games.
        small: at a size that only shows that it runs.
    """
    width, rounds = (0.0625, 2) if small else (1.0, 30)
    batches = (1, 8) if small else BATCHES
    at = partial(
        early_exit.measure, device=device, width=width, rounds=rounds,
        window=0.05 if small else 1.5,
    )  # fmt: skip
    games = gpu_games.items(device, out, small=small)
    knockoff = games.popitem()  # last of all
    agenda: dict[str, Item] = {"tests": partial(_tests, small), **games}
    for batch in batches:
        for name in MIXES:
            slug = name.replace(" % ", "-").replace(" ", "-")
            agenda[f"early-exit-{batch}-{slug}"] = partial(at, batch, name)
    repeats = 3 if small else 200
    batch = 4 if small else 256
    agenda["exit-gaps"] = partial(early_exit.gaps, device=device, width=width, repeats=repeats)
    agenda["matrix-rate"] = partial(
        phases.matrix_rate, device=device, size=64 if small else 8192, rounds=rounds
    )
    agenda["dfme"] = partial(
        phases.measure, device=device, rounds=2 if small else 200, batch=batch, width=width
    )
    agenda["clone-steps"] = partial(
        phases.clone_steps, device=device, rounds=rounds, batch=batch, width=width
    )
    return agenda | dict([knockoff])


def main(words: list[str] | None = None) -> int:
    """Measure what is missing; returns 1 if an item failed."""
    options = _options(words)
    device = torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name, item in items(device, options.out, small=options.small).items():
        path = options.out / f"{name}.json"
        if not any(name.startswith(wanted) for wanted in options.only or [""]):
            continue
        if _is_there(path, renew=options.renew):
            print(f"{name}: there already")
            continue
        print(f"{name}: measuring", flush=True)
        try:
            figures = item()
        except Exception as error:  # the next item may still be measured
            failed = True
            print(f"{name}: {type(error).__name__}: {error}")
            continue
        _keep(path, figures, device, small=options.small)
    _show(options.out)
    return int(failed)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    fallback = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=fallback)
    parser.add_argument("--only", action="append", help="items whose name begins so")
    parser.add_argument("--small", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--renew", action="store_true", help="measure anew after a commit")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(words)


def _is_there(path: Path, *, renew: bool) -> bool:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing, or cut short by a kill
        return False
    return not renew or kept.get("git_commit") == git_state()[0]


def _keep(path: Path, figures: Mapping[str, object], device: torch.device, *, small: bool) -> None:
    commit, changed = git_state()
    kept = {
        "item": path.stem,
        "command": shlex.join(["python", "-m", "benchmarks.gpu_agenda", *sys.argv[1:]]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(device),
        "versions": dict(versions()),
        "git_commit": commit,
        "git_changed": changed,
        "small": small,
        "seeds": "networks 0 and 1, images 1, mixes 2, attackers 3",
        "figures": figures,
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _tests(small: bool) -> Mapping[str, object]:
    """Run the tests that need a GPU; without one they skip themselves, which is told."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-rs",
        "tests/world/game/test_device.py",
    ]
    if not small:
        words[-1] = "tests"
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 5):  # 5: nothing was collected
        raise RuntimeError(f"tests failed:\n{done.stdout[-2000:]}")
    return {"returncode": done.returncode, "last_line": done.stdout.strip().splitlines()[-1]}


def _show(folder: Path) -> None:
    """Print a short table of everything that is there."""
    for path in sorted(folder.glob("*.json")):
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        cells = []
        for name, value in figures.items():
            shown = value.get("seconds") if isinstance(value, dict) else value
            cells.append(f"{name} {_short(shown)}")
        print(f"{path.stem:<28} {'  '.join(cells)}")


def _short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
