"""Describes a run for the log: what was asked for, and which program plays it where."""

import torch

from arena.log.rows import RunRecord
from arena.system.provenance import device_name, git_state, versions
from arena.system.threads import THREADS


def run_record(
    command: str,
    device: torch.device,
    *,
    scenario_name: str,
    scenario_text: str = "",
    threads: int | None = None,
) -> RunRecord:
    """Describe a run that begins now.

    Args:
        command: what starts it again.
        device: where it plays.
        scenario_name: of the scenario, as the log lists it.
        scenario_text: the scenario as TOML; "" where there is none.
        threads: that compute in each process that plays; those of this one if absent.
    """
    commit, dirty = git_state()
    return RunRecord(
        command=command,
        scenario_name=scenario_name,
        scenario_text=scenario_text,
        versions=versions() | {THREADS: str(threads or torch.get_num_threads())},
        git_commit=commit,
        git_dirty=dirty,
        device=device_name(device),
    )
