"""Writes objects to a file and reads them back among other live objects.

Objects are pickled as `torch.save` does it, so that tensors which share memory still share it
afterwards. What belongs to the match (the oracle, the kit, the pool) is not written: it is known by
a name and stands for the object of that name where the file is read. Generators are written as
their state.

Reading a pickle runs what it says. Read none that you did not write.
"""

import pickle
from collections.abc import Mapping
from types import SimpleNamespace
from typing import IO, Any

import torch
from torch import Tensor

# `Any` in this file: whatever a player holds.


def write(state: object, file: IO[bytes], live: Mapping[str, object]) -> None:
    """Write a state.

    Args:
        state: anything that can be pickled, `live` objects among it.
        file: open for writing.
        live: objects that are known by name and are not written.

    Raises:
        Exception: something in it cannot be pickled, or there is no room.
    """
    names = {id(thing): name for name, thing in live.items() if thing is not None}

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if (name := names.get(id(obj))) is not None:
                return _live, (name,)
            if isinstance(obj, torch.Generator):
                return _generator, (str(obj.device), obj.get_state())
            return NotImplemented

    module = SimpleNamespace(__name__=__name__, Pickler=Pickler)
    torch.save(state, file, pickle_module=module)


def read(file: IO[bytes], live: Mapping[str, object]) -> Any:
    """Read a state that `write` wrote, on the devices where it was.

    Args:
        file: open for reading.
        live: the objects of now, by the names of then.

    Raises:
        Exception: it cannot be read: other code, a name that is not there, a damaged file.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == (__name__, _live.__name__):
                return live.__getitem__
            return super().find_class(module, name)

    module = SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=pickle.load)
    # the file is this program's own: its seal was checked
    return torch.load(file, pickle_module=module, weights_only=False)


def _live(name: str) -> object:
    """Stand for a live object in the file; `read` puts the object in its place."""
    raise AssertionError(f"'{name}' is looked up where it is read")


def _generator(device: str, state: Tensor) -> torch.Generator:
    """Rebuild a generator where it stood."""
    generator = torch.Generator(device=device)
    generator.set_state(state)
    return generator
