"""`arena replay`: show an episode from the log, verify it, or change its defender."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import (
    FAILED,
    DeviceOption,
    JsonOption,
    LogOption,
    QuietOption,
    TrustOption,
    out,
    pick_device,
)
from arena.cli.render import write_json, write_line, write_table
from arena.report.formatting import count_text, percent
from arena.runner.stopping import stopping
from envs.errors import ScenarioError

if TYPE_CHECKING:
    from arena.replay.counterfactual import WhatIf
    from arena.replay.verify import Verification

SHOWN = 12
"""Differences that are listed; `--json` lists all."""


def replay(
    episode: Annotated[str, typer.Argument(metavar="ID", help="The id, or a unique prefix of it.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Play it again and compare it with the log.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="DEFENDER",
            help="Answer the recorded queries with another defender or defence.",
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option("--speed", min=1e-3, help="Speed of the playback: 2 is twice as fast."),
    ] = None,
    step: Annotated[
        bool, typer.Option("--step", help="Wait for a key after every step, in a terminal.")
    ] = False,
    trust_plugins: TrustOption = False,
    device: DeviceOption = None,
    log: LogOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show an episode from the log, play it again to verify it, or change its defender.

    --verify ends with exit code 1 if anything differs. In a terminal, space pauses and continues,
    n shows the next step, q quits.
    """
    if verify and against is not None:
        raise ScenarioError("--verify and --against exclude each other; give one of them")
    if against is not None:
        found = _answered(
            episode, against, log, trust_plugins=trust_plugins, device=device, quiet=quiet
        )
        _show_what_if(found, json=json)
    elif verify:
        verdict = _verified(episode, log, trust_plugins=trust_plugins, device=device, quiet=quiet)
        _show_verdict(verdict, json=json)
    else:
        _reenact(episode, log, speed=speed, step=step, json=json)


def _reenact(episode: str, log: str | None, *, speed: float | None, step: bool, json: bool) -> None:
    from arena.analysis.timeline import timeline_steps
    from arena.cli.playback import show
    from arena.log.store import Log
    from arena.recording.samples import asked_in, sample_path

    with Log.open(log, create=False) as store:
        row = store.episode(episode)
        timeline, asked = timeline_steps(store, row), asked_in(store, row.id)
        path = sample_path(store, row.id)
    if json:
        write_json({"episode": row.id, "steps": timeline, "samples": path})
    else:
        show(row, timeline, asked, path, speed=speed, step=step)


def _verified(
    episode: str, log: str | None, *, trust_plugins: bool, device: str | None, quiet: bool
) -> "Verification":
    from arena.cli.progress import watching
    from arena.log.store import Log
    from arena.replay.verify import verify

    with stopping(), Log.open(log, create=False) as store, watching(quiet=quiet) as watcher:
        return verify(store, episode, device=device, watcher=watcher, trust_plugins=trust_plugins)


def _show_verdict(verdict: "Verification", *, json: bool) -> None:
    if json:
        write_json({"same": verdict.same, **asdict(verdict)})
    else:
        _tell(verdict)
    if not verdict.same:
        raise typer.Exit(FAILED)


def _tell(verdict: "Verification") -> None:
    """Write the result of a replay: the counts, or the differences and their likely causes."""
    console = out()
    write_line(console, f"{verdict.title} ({verdict.episode}), played again on {verdict.device}")
    compared = (
        f"{count_text(verdict.buckets)} buckets of rounds, {verdict.checkpoints} checkpoints, "
        f"{verdict.scores} scores"
    )
    if verdict.tape_fault:
        write_line(console, f"the tape cannot be compared: {verdict.tape_fault}")
    for line in verdict.changed:
        write_line(console, f"the log was changed: {line}")
    if not verdict.differences:
        played = "the replay is the same as the log says" if verdict.changed else "the same"
        write_line(console, f"{played}: {compared}")
    else:
        write_line(console, f"differs first in {verdict.differences[0]}")
        for difference in verdict.differences[1:SHOWN]:
            write_line(console, f"  {difference}")
        if len(verdict.differences) > SHOWN:
            hidden = len(verdict.differences) - SHOWN
            write_line(console, f"  and {hidden} more; --json lists all")
        write_line(console, f"compared: {compared}")
    for cause in verdict.causes:
        write_line(console, f"likely cause: {cause}")
    for note in verdict.notes:
        write_line(console, f"note: {note}")


def _answered(
    episode: str,
    defender: str,
    log: str | None,
    *,
    trust_plugins: bool,
    device: str | None,
    quiet: bool,
) -> "WhatIf":
    from arena.cli.progress import watching
    from arena.log.store import Log
    from arena.replay.counterfactual import answer_with

    with stopping(), Log.open(log, create=False) as store, watching(quiet=quiet) as watcher:
        return answer_with(
            store,
            episode,
            defender,
            device=pick_device(device),
            watcher=watcher,
            trust_plugins=trust_plugins,
        )


def _show_what_if(found: "WhatIf", *, json: bool) -> None:
    from arena.replay.counterfactual import FROZEN

    if json:
        write_json({"origin": found.origin, "episode": found.episode, "note": FROZEN,
                    "agreement": found.agreement, "distance": found.distance})  # fmt: skip
    else:
        _tell_what_if(found)
    if found.episode.status != "success":
        raise typer.Exit(FAILED)


def _tell_what_if(found: "WhatIf") -> None:
    """Write the outcome of the recorded queries with both defenders."""
    from arena.replay.counterfactual import FROZEN

    console, then, now = out(), found.origin, found.episode
    write_line(console, f"the queries of {then.attacker} ({then.id}), answered by "
                        f"{now.defender}: {now.status} ({now.id})")  # fmt: skip
    if now.error:
        write_line(console, now.error)
        return
    columns = ("", then.defender, now.defender)
    measures = (
        ("compute per attack query %", "attack_compute_share"),
        ("compute per benign query %", "benign_compute_share"),
        ("served accuracy %", "served_accuracy"),
        ("served agreement %", "served_agreement"),
    )
    rows = [(name, percent(getattr(then, field)), percent(getattr(now, field)))
            for name, field in measures]  # fmt: skip
    write_table(console, columns, rows, right=columns[1:])
    if found.agreement is None or found.distance is None:
        write_line(console, "no image was answered by both, so that no answers can be compared")
    else:
        same = f"answers with the recorded label: {percent(found.agreement)} %"
        distance = f"mean L1 distance from the recorded ones: {found.distance:.3f}"
        write_line(console, f"{same}; {distance}")
    write_line(console, f"note: {FROZEN}")
