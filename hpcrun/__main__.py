"""`python -m hpcrun`, which works where another command of this name is first on the PATH."""

from hpcrun.cli.main import main

if __name__ == "__main__":
    main()
