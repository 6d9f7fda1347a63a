"""The command `hpcrun`; also as `python -m hpcrun`, which works where another command of this name
is first on the PATH."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs a command and exits with its documented code; so it does after Ctrl-C while it is
    loaded, which takes seconds from some file systems."""
    try:
        from hpcrun.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
