"""The settings that a process has once, each with how it is read and how it is written.

A player may leave any of them changed; `arena.system.process_state` compares and restores them.
"""

import faulthandler
import gc
import locale
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

# `Any` in this file: values of settings, each of its own type.

_guards: list[torch.inference_mode] = []
"""Ends inference mode that a player left on; torch restores the mode when a guard is deleted."""


class Setting(NamedTuple):
    """One of them.

    Attributes:
        read: returns its value; of a mapping each key is compared by itself.
        write: takes what `read` returned, and is called only where `read` now returns another.
        told: whether a change is a player's doing; libraries change some when they are imported.
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]
    told: bool = True


def _attributes(owner: object, *names: str) -> Setting:
    """Make a setting of objects that lie under a few names and are replaced as a whole."""

    def write(values: Mapping[str, object]) -> None:
        for name, value in values.items():
            setattr(owner, name, value)

    return Setting(lambda: {name: getattr(owner, name) for name in names}, write)


def _list(items: Callable[[], list[Any]]) -> Setting:
    """Make a setting of what a list holds."""
    return Setting(lambda: tuple(items()), lambda then: items().__setitem__(slice(None), then))


def _set_default_device(device: str) -> None:
    torch.set_default_device(None if device == "cpu" else device)


def _set_inference_mode(on: bool) -> None:
    _guards.append(torch.inference_mode(on))
    _guards[-1].__enter__()


def _autocast(kind: str) -> Setting:
    def write(setting: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(kind, setting[0])
        torch.set_autocast_dtype(kind, setting[1])
        torch.clear_autocast_cache()

    return Setting(lambda: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)), write)


def _autocast_depth() -> int:
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _set_autocast_depth(depth: int) -> None:
    """Leave or enter contexts; within one that is never left, casts of weights are kept."""
    while _autocast_depth() > depth:
        torch.autocast_decrement_nesting()
    while _autocast_depth() < depth:
        torch.autocast_increment_nesting()
    torch.clear_autocast_cache()


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _change_folder(folder: str) -> None:
    with suppress(OSError):  # it may be gone
        os.chdir(folder)


def _mask() -> int:
    mask = os.umask(0o077)  # it can be read by setting it alone; what is made now is not too open
    os.umask(mask)
    return mask


_OF_TORCH = ("CUDA_MODULE_LOADING", "KINETO_", "TORCH", "TRITON_")
"""Variables that torch sets itself when parts of it are first used."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_TORCH)}


def _set_environment(then: Mapping[str, str]) -> None:
    for name in _environment().keys() - then.keys():
        del os.environ[name]
    os.environ.update(then)


def _handlers() -> dict[str, object]:
    """Return what Python calls for signals; what was not installed from Python is not known."""
    found = {one.name: signal.getsignal(one) for one in signal.valid_signals()
             if isinstance(one, signal.Signals)}  # fmt: skip
    return {name: handler for name, handler in found.items() if handler is not None}


def _set_handlers(then: Mapping[str, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only that one may
    for name, handler in then.items():
        if signal.getsignal(signal.Signals[name]) != handler:
            signal.signal(signal.Signals[name], handler)


def _alarm() -> bool:
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _set_alarm(on: bool) -> None:
    if not on:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _set_filters(filters: tuple[Any, ...]) -> None:
    warnings.resetwarnings()  # what was decided by the others is forgotten
    warnings.filters.extend(filters)  # type: ignore[attr-defined]  # a list, whatever the stubs say


def _set_fault_handler(on: bool) -> None:
    if not on:
        faulthandler.disable()
        return
    with suppress(AttributeError, OSError, RuntimeError, ValueError):  # stderr may be no file
        faulthandler.enable()


def _search_path(owner: Any, name: str) -> Setting:
    """Make a setting of a list that imports go through: what is new comes last and stays.

    A player's module may need what it put there whenever it imports.
    """
    kept = getattr(owner, name)

    def write(then: tuple[object, ...]) -> None:
        now = list(getattr(owner, name))
        setattr(owner, name, kept)
        kept[:] = [*then, *(one for one in now if one not in then)]

    return Setting(lambda: tuple(getattr(owner, name)), write)


def _attribute(owner: object, name: str) -> Setting:
    return Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _torch_settings() -> dict[str, Setting]:
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    return {
        "gradient mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
        "default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
        "threads": Setting(torch.get_num_threads, torch.set_num_threads),
        "matrix precision": Setting(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        ),
        "cuDNN": _attribute(cudnn, "enabled"),
        "cuDNN TF32": _attribute(cudnn, "allow_tf32"),
        "cuDNN benchmark": _attribute(cudnn, "benchmark"),
        "cuDNN determinism": _attribute(cudnn, "deterministic"),
        "oneDNN": _attribute(torch.backends.mkldnn, "enabled"),
        **{
            f"attention by {name}": Setting(
                getattr(cuda, f"{name}_sdp_enabled"), getattr(cuda, f"enable_{name}_sdp")
            )
            for name in ("flash", "mem_efficient", "math", "cudnn")
        },
        # writing loads a compiler, which takes seconds
        "deterministic algorithms": Setting(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
        ),
        "anomaly detection": Setting(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        "inference mode": Setting(torch.is_inference_mode_enabled, _set_inference_mode),
        "default device": Setting(lambda: str(torch.get_default_device()), _set_default_device),
        "autocast on cpu": _autocast("cpu"),
        "autocast on cuda": _autocast("cuda"),
        "depth of autocast": Setting(_autocast_depth, _set_autocast_depth),
        "denormal numbers": Setting(
            lambda: sys.float_info.min / 2 > 0, lambda on: torch.set_flush_denormal(not on)
        ),
    }


def _python_settings() -> dict[str, Setting]:
    return {
        "recursion limit": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
        "switch interval": Setting(sys.getswitchinterval, sys.setswitchinterval),
        "digits of a number": Setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits),
        "working folder": Setting(_folder, _change_folder),
        "file mask": Setting(_mask, os.umask),
        "environment variable": Setting(_environment, _set_environment),
        "handler of": Setting(_handlers, _set_handlers),
        "alarm": Setting(_alarm, _set_alarm),
        "stream": _attributes(sys, "stdin", "stdout", "stderr"),
        "hook": _attributes(sys, "excepthook", "displayhook", "unraisablehook", "breakpointhook"),
        "hook of threads": _attributes(threading, "excepthook"),
        "tracing": Setting(sys.gettrace, sys.settrace),
        "profiling": Setting(sys.getprofile, sys.setprofile),
        "garbage collection": Setting(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        "garbage thresholds": Setting(gc.get_threshold, lambda then: gc.set_threshold(*then)),
        "garbage callbacks": _list(lambda: gc.callbacks),
        "locale": Setting(
            lambda: locale.setlocale(locale.LC_ALL),
            lambda then: locale.setlocale(locale.LC_ALL, then),
        ),
        "fault handler": Setting(faulthandler.is_enabled, _set_fault_handler),
        "socket time-out": Setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
        "folder of temporary files": _attributes(tempfile, "tempdir"),
        "warnings": _attributes(warnings, "showwarning", "formatwarning"),
        # many a library adds one when it is imported
        "warning filters": Setting(lambda: tuple(warnings.filters), _set_filters, told=False),
        "import paths": _search_path(sys, "path")._replace(told=False),
        "import finders": _search_path(sys, "meta_path")._replace(told=False),
        "import hooks": _search_path(sys, "path_hooks")._replace(told=False),
        "logging": _attributes(logging.root, "level", "disabled"),
        "logging handlers": _list(lambda: logging.root.handlers),
        "logging switched off": Setting(lambda: logging.root.manager.disable, logging.disable),
        "NumPy's answer to": Setting(np.geterr, lambda then: np.seterr(**then)),
    }


SETTINGS: Mapping[str, Setting] = MappingProxyType({**_torch_settings(), **_python_settings()})
"""By the name that an event of the log has for it."""
