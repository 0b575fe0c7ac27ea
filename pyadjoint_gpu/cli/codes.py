"""Exit codes of the command line."""

DONE, FAILED, BAD_INPUT = 0, 1, 2
