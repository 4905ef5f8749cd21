"""`python -m amzrec` is `amzrec`: where the command line begins, before anything else is imported."""

import os
import signal
import sys


def end_at_once(number: int, frame: object) -> None:
    """End in one line while the program is still being imported and nothing has begun."""
    os.write(2, b"amzrec: interrupted\n")
    os._exit(128 + number)


def main() -> None:
    """Run `amzrec` with the words that were typed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end_at_once)
    from amzrec import heap

    if sys.argv[1:2] and sys.argv[1] in heap.TRAINS:
        heap.share()
    from amzrec.cli.app import main as run

    run()


if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]  # which python -m puts there: a json.py in the working directory is none of ours
    main()
