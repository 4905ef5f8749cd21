"""`python -m amzrec` is `amzrec`."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]  # which python -m puts there: a json.py in the working directory is none of ours

from amzrec.cli.app import main

main()
