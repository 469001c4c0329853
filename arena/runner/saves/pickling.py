"""Writes objects to a file and reads them back among other live objects.

Objects are pickled as `torch.save` does it, so that tensors which share memory still share it
afterwards. What belongs to the match (the oracle, the kit, the pool) is not written: it is known by
a name and stands for the object of that name where the file is read. Generators are written as
their state.

A snapshot is a pickle: reading one runs what it says. Read none that you did not write.
"""

import pickle
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import IO, Any

import torch
from torch import Tensor

from envs.errors import SaveError, one_line

# `Any` in this file: whatever a player holds.


def write(state: object, file: IO[bytes], live: Mapping[str, object]) -> None:
    """Write a state.

    Args:
        state: anything that can be pickled, `live` objects among it.
        file: open for writing.
        live: objects that are known by name and are not written.

    Raises:
        SaveError: something in it cannot be pickled; the message names it.
        OSError: no room.
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
    try:
        torch.save(state, file, pickle_module=module)
    except Exception as error:  # a player's own code raises what it likes
        refusal = _refusal_of_disk(error)
        if refusal is not None:
            raise refusal from None
        raise SaveError(one_line(error)) from error


def _refusal_of_disk(error: BaseException) -> OSError | None:
    """Find the refusal of the disk behind an error: torch raises its own while it closes a file."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, OSError):
        at = at.__context__
    return at


def read(file: IO[bytes], live: Mapping[str, object]) -> Any:
    """Read a state that `write` wrote, on the devices where it was.

    Args:
        file: open for reading.
        live: the objects of now, by the names of then.

    Raises:
        SaveError: it cannot be read: other code, a name that is not there, a damaged file.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == (__name__, _live.__name__):
                return live.__getitem__
            return super().find_class(module, name)

    module = SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=pickle.load)
    try:
        # the file is this program's own, of an episode in the user's log
        return torch.load(file, pickle_module=module, weights_only=False)
    except Exception as error:  # whatever constructors of other code raise
        raise SaveError(one_line(error)) from error


def _live(name: str) -> object:
    """Stand for a live object in the file; `read` puts the object in its place."""
    raise AssertionError(f"'{name}' is looked up where it is read")


def _generator(device: str, state: Tensor) -> torch.Generator:
    """Rebuild a generator where it stood."""
    generator = torch.Generator(device=device)
    generator.set_state(state)
    return generator


class ChangedAttributes:
    """Tells which attributes of an object changed since it was made.

    Defences keep their networks in attributes; only what moves while they serve has to be saved.
    Noticed are attributes bound anew, tensors changed in place, and every container.
    """

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._then = {name: _mark(value) for name, value in vars(thing).items()}
        # kept alive, or an address might be given to another object
        self._held = list(vars(thing).values())

    def changed(self) -> dict[str, object]:
        """Return the attributes that changed, by name."""
        return {
            name: value
            for name, value in vars(self._thing).items()
            if isinstance(value, dict | list | set) or self._then.get(name) != _mark(value)
        }

    def put_back(self, values: Mapping[str, object]) -> None:
        """Set attributes to what they were."""
        for name, value in values.items():
            setattr(self._thing, name, value)


def _mark(value: object) -> object:
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    version = value._version if isinstance(value, Tensor) and not value.is_inference() else 0
    return id(value), version


Write = Callable[[IO[bytes]], None]


def writer(state: object, live: Mapping[str, object]) -> Write:
    """Return what writes a state into a file."""
    return lambda file: write(state, file, live)
