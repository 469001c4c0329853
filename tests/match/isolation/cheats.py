"""Attackers that cheat: each function tries one thing and tells whether it got it.

This file is a player's: it is imported where its attacker plays.
"""

import ctypes
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import torch

from agents.base import Attacker

os.environ["ARENA_CHEAT_IMPORT"] = "ran"  # what importing this file does


def image(oracle, count=1):
    return torch.full((count, *oracle.threat.image_shape), 0.5)


def budget(oracle, kit, lent):
    object.__setattr__(oracle.threat, "budget", 10**6)
    return asks_beyond(oracle)


def asks_beyond(oracle):
    try:
        oracle.query(image(oracle, lent_budget + 1))
    except Exception:
        return False
    return True


lent_budget = 1000


def labels(oracle, kit, lent):
    object.__setattr__(oracle.threat, "labels", "soft")
    return bool((oracle.query(image(oracle)).posteriors.max() < 1).any())


def size(oracle, kit, lent):
    class Small(torch.Tensor):
        @property
        def shape(self):
            return torch.Size((1, *super().shape[1:]))

        def __len__(self):
            return 1

    before = oracle.remaining
    answers = oracle.query(image(oracle, 20).as_subclass(Small)).posteriors
    return torch.Tensor.size(answers)[0] > before - oracle.remaining


def ledger(oracle, kit, lent):
    game = getattr(oracle, "_GameOracle__game", None)
    if game is None:
        oracle._IsolatedOracle__remaining = 10**6
        return asks_beyond(oracle)
    budget, accounts = game._budget, game._accounts
    used, room = budget._used, accounts.room
    budget._used, accounts.room = -(10**6), 10**6
    try:
        return asks_beyond(oracle)
    finally:
        budget._used, accounts.room = used, room


def of_type(name):
    return [one for one in gc.get_objects() if type(one).__name__ == name]


def victim_by_gc(oracle, kit, lent):
    return bool(of_type("Victim"))


def test_set_by_gc(oracle, kit, lent):
    return bool(of_type("ImageSet"))


def posteriors_of_the_referee(oracle, kit, lent):
    return bool(of_type("Referee"))


def frames(oracle, kit, lent):
    frame = sys._getframe()
    while frame is not None:
        if type(frame.f_locals.get("self")).__name__ == "Episode":
            return True
        frame = frame.f_back
    return False


def callback(oracle, kit, lent):
    owner = getattr(kit.on_report, "__self__", None)
    return hasattr(owner, "_game")


def torch_function(oracle, kit, lent):
    seen, real = [], torch.nn.functional.conv2d

    def look(images, weight, *more, **named):
        seen.append(weight)
        return real(images, weight, *more, **named)

    torch.nn.functional.conv2d = look
    try:
        oracle.query(image(oracle))
    finally:
        torch.nn.functional.conv2d = real
    return bool(seen) or bool(of_type("MultiExit"))


def log_object(oracle, kit, lent):
    return bool(of_type("EpisodeWriter"))


def log_in_environment(oracle, kit, lent):
    texts = [*os.environ.values(), *sys.argv]
    return any(text.endswith("cheats.db") for text in texts)


def log_file(oracle, kit, lent):
    return can_read(lent["log"])


def cache(oracle, kit, lent):
    return can_read(lent["cached"])


def data(oracle, kit, lent):
    return can_read(lent["data"])


def can_read(path):
    try:
        return bool(Path(path).read_bytes())
    except OSError:
        return False


def parent_memory(oracle, kit, lent):
    return can_open(f"/proc/{lent['referee']}/mem", "rb")


def parent_environment(oracle, kit, lent):
    return can_read(f"/proc/{lent['referee']}/environ")


def parent_command(oracle, kit, lent):
    return can_read(f"/proc/{lent['referee']}/cmdline")


def parent_files(oracle, kit, lent):
    try:
        return bool(os.listdir(f"/proc/{lent['referee']}/fd"))
    except OSError:
        return False


def signals(oracle, kit, lent):
    try:
        os.kill(lent["referee"], 0)
    except OSError:
        return False
    return True


def can_open(path, mode):
    try:
        Path(path).open(mode).close()
    except OSError:
        return False
    return True


def our_code(oracle, kit, lent):
    return can_open(sys.modules["agents"].__file__, "a")


def libraries(oracle, kit, lent):
    return can_open(torch.__file__, "a")


def home(oracle, kit, lent):
    return can_open(Path(lent["folder"]) / "written", "w")


def network(oracle, kit, lent):
    try:
        socket.create_connection(("127.0.0.1", lent["port"]), timeout=5).close()
    except OSError:
        return False
    return True


def terminal(oracle, kit, lent):
    inherited = [number for number in range(256) if os.isatty(number)]
    return any(os.read(number, 100) for number in select.select(inherited, [], [], 1)[0])


def memory(oracle, kit, lent):
    try:
        torch.empty(3 * 2**30, dtype=torch.uint8)
    except (RuntimeError, MemoryError):
        return False
    return True


def gradients(oracle, kit, lent):
    torch.set_grad_enabled(False)  # judged by the arena's process, afterwards


def functions(oracle, kit, lent):
    torch.nn.functional.relu = None  # likewise


def referee(oracle, kit, lent):
    from arena.evaluation.referee import CloneScore, Referee

    Referee.score = Referee.score_checkpoint = lambda *_: CloneScore(1.0, 1.0)
    # judged by a checkpoint that comes here
    oracle.query(image(oracle, 300))


def own_code(oracle, kit, lent):
    type(kit).note = None  # likewise


def optimizers(oracle, kit, lent):
    torch.optim.Adam.step = lambda *_: None  # likewise


def hooks(oracle, kit, lent):
    torch.nn.modules.module.register_module_forward_hook(lambda *_: torch.zeros(()))  # likewise


class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def modes(oracle, kit, lent):
    Mode().__enter__()  # likewise


def threads(oracle, kit, lent):
    answered = []

    def ask():
        for _ in range(200):
            try:
                answered.append(len(oracle.query(image(oracle, 10)).posteriors))
            except Exception:
                return

    left = oracle.remaining
    all_of_them = [threading.Thread(target=ask) for _ in range(6)]
    for one in all_of_them:
        one.start()
    for one in all_of_them:
        one.join()
    return sum(answered) > left


JUDGED = (gradients, functions, own_code, optimizers, hooks, modes)
PROBES = (
    labels, size, budget, victim_by_gc, test_set_by_gc, posteriors_of_the_referee, frames, callback,
    torch_function, log_object, log_in_environment, log_file, cache, data, parent_memory,
    parent_environment, parent_command, parent_files, signals, our_code, libraries, home, network,
    terminal, memory, threads, ledger,
)  # fmt: skip


class Cheats(Attacker):
    """Tries all of `PROBES`."""

    def __init__(self, *, lent: str = "") -> None:
        self.lent = dict(part.split("=", 1) for part in lent.split(";"))

    def attack(self, oracle, kit):
        lent = self.lent | {name: int(self.lent[name]) for name in ("referee", "port")}
        self.clone = kit.new_clone()
        referee(oracle, kit, lent)
        for cheat in PROBES:
            kit.note("cheat", cheat.__name__, got=bool(cheat(oracle, kit, lent)))
        for cheat in JUDGED:
            cheat(oracle, kit, lent)


def exits(oracle):
    os._exit(3)


def kills_itself(oracle):
    os.kill(os.getpid(), signal.SIGKILL)


def reads_nowhere(oracle):
    ctypes.string_at(0)


def says_goodbye(oracle):
    sys.exit("bad")


def never_ends(oracle):
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


class Asking(torch.nn.Module):
    """A clone that asks the victim for what it is tested on."""

    def __init__(self, oracle):
        super().__init__()
        self.oracle = oracle

    def forward(self, images):
        return self.oracle.query(images[: self.oracle.remaining]).posteriors


class Ending(Attacker):
    """Asks for 300 answers, hands a clone over at a checkpoint, and ends in its own way."""

    def __init__(self, *, how: str = "") -> None:
        self.how = how

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        oracle.query(image(oracle, 300))
        if self.how == "asks_in_forward":
            self.clone = Asking(oracle)
        else:
            globals()[self.how](oracle)
