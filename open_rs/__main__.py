"""`python -m open_rs`: the command line, also for launchers that start modules."""

from open_rs.cli import main

if __name__ == "__main__":
    main()
