"""`python -m mnistcli` and the `mnistcli` command."""

import gc

from mnistcli.signals import end_on_signals


def main() -> None:
    """Run the program; signals end it without a traceback while it is still being imported."""
    end_on_signals()
    # Imports leave few cycles: full collections meanwhile take a tenth of a short command's time.
    gc.set_threshold(100_000)
    from mnistcli.cli import app

    app.main()


if __name__ == "__main__":
    main()
