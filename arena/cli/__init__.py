"""The command line. `app.py` puts it together; each command or group of commands has a file."""

import gc
import sys


def main() -> None:
    """Run the command line; end with exit code 2 where another package has the name of ours.

    The process does not wait for threads that players left running.
    """
    from arena.system.shadowing import ShadowedPackage, require_own_packages

    try:
        require_own_packages()
    except ShadowedPackage as error:
        print(f"arena: {error}", file=sys.stderr)
        sys.exit(2)
    gc.disable()  # until a command begins: among what is imported there is no garbage
    from arena.cli.app import app
    from arena.system.left_threads import end_without_them
    from arena.system.memory import keep_memory

    keep_memory()
    try:
        app()
    except SystemExit as end:
        end_without_them(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
