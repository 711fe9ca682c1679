"""What a command's exit code means."""

OK = 0
FAILED = 1
USAGE = 2
PARTLY = 3  # some inputs failed, the others were handled
NOTHING = 4  # no result
INTERRUPTED = 130
