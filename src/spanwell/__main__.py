"""The `spanwell` command. `run` goes first and imports nothing else: its start is every start."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit status."""
    if sys.argv[1:2] == ["run"]:
        from spanwell._run import launch

        launch(sys.argv[2:])
    from spanwell.cli import main as cli

    return cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
