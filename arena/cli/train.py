"""`arena train`: train victims and harden defences into the cache, before a match."""

from arena.cli.common import (
    DeviceOption,
    FileArgument,
    QuietOption,
    SetOption,
    TrustOption,
    out,
    pick_device,
)
from arena.cli.loading import load_one
from arena.cli.progress import watching
from arena.cli.render import write_line


def train(
    file: FileArgument,
    set_: SetOption = None,
    trust_plugins: TrustOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train and harden the victims of a scenario, so `arena run` finds them in the cache."""
    scenario = load_one(file, set_, trust_plugins=trust_plugins)

    from arena.runner.preparation import prepare

    with watching(quiet=quiet) as watcher:
        count = prepare(scenario, watcher=watcher, device=pick_device(device))
    write_line(out(), f"{scenario.name}: {count} defended victims are ready")
    if scenario.drawn_seed is not None:
        write_line(out(), f"{scenario.name} names no seeds; drew {scenario.drawn_seed}, and "
                          f"'arena run' finds them with --seeds {scenario.drawn_seed}")  # fmt: skip
