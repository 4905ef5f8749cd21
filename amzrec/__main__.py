"""`python -m amzrec` is `amzrec`."""

from amzrec.cli.app import main

main()
