"""`python -m dbkit`: see `dbkit.cli.main`."""

from dbkit.cli.main import main

if __name__ == "__main__":
    main("python -m dbkit")
