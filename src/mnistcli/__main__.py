"""`python -m mnistcli` and the `mnistcli` command."""

import gc
import signal


def main() -> None:
    """Run the program; Ctrl-C ends it without a traceback while it is still being imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imports leave few cycles: full collections meanwhile take a tenth of a short command's time.
    gc.set_threshold(100_000)
    from mnistcli.cli import app

    app.main()


if __name__ == "__main__":
    main()
