"""Imports what every worker on a CPU needs, in the process that workers are forked from."""

import os
import signal

from arena.system.memory import keep_memory

# both have to stand before torch is loaded
os.environ["OMP_NUM_THREADS"] = "1"
keep_memory()
# this process outlives a stop of the whole group; a worker unblocks it once it listens
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})

import torch._dynamo  # noqa: E402, F401 -- the first optimizer imports it, in seconds

import arena.log.store  # noqa: E402
import arena.runner.resume  # noqa: E402
import arena.runner.setup  # noqa: E402, F401
