"""`python -m amzrec` is `amzrec`."""

from amzrec.cli import main

main()
