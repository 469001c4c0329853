"""Looks for the files a scenario needs before its first episode begins."""

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING

from arena.http.addresses import read_key
from arena.scenario.schema import ScenarioFile
from arena.scenario.schema_parts import DataSpec, NetSpec
from envs.errors import DataMissing

if TYPE_CHECKING:
    from arena.scenario.scenario import Scenario
    from envs.nets.staged import Start


def require_files(scenario: "Scenario") -> None:
    """Check that data sets, pools and published weights are where a scenario looks for them.

    So is the API key of a victim elsewhere. Nothing else is read, so that damaged files are found
    later.

    Raises:
        DataMissing: one line for each that is not there: what to put where.
    """
    faults = []
    for look in chain.from_iterable(map(_looks, scenario.points)):
        try:
            look()
        except DataMissing as fault:
            faults.append(str(fault))
    if faults:
        raise DataMissing("\n".join(dict.fromkeys(faults)))


def _looks(scenario: ScenarioFile) -> Iterator[Callable[[], object]]:
    for data in (scenario.data, scenario.threat.pool, scenario.traffic.ood):
        if data is not None:
            yield partial(_look_for_data, data)
    if not scenario.victim.is_remote:
        yield partial(_look_for_weights, scenario.victim, "victim")
    elif (name := scenario.victim.api_key_env) is not None:
        yield partial(read_key, name)
    yield partial(_look_for_weights, scenario.clone, "clone")


def _look_for_data(data: DataSpec) -> None:
    from envs.data import places

    places.require(data.use, root=data.root, download=data.download, path=data.params.get("path"))


def _look_for_weights(net: NetSpec, where: str) -> None:
    from envs.nets.given_weights import require_weights

    if net.weights is not None:
        require_weights(net.weights, f"{where}.weights")

    if net.params.get("weights") and (start := _start(net.use, json.dumps(net.params))) is not None:
        start.path()


@cache  # laying a large network out takes a second, and scenarios come in families
def _start(use: str, params: str) -> "Start | None":
    from envs.nets import registry

    return registry.start_of(use, json.loads(params))
