"""What a rank's exit code says; a launcher hands on the first that is not 0."""

FINISHED = 0
#: An input to mend, said in one line: starting again would not help.
BAD_INPUT = 2
#: The watchdog ended it: no progress within a limit.
HUNG = 60
#: Another rank of the run has gone.
PEER_DIED = 61
#: A signal stopped it, its checkpoint is written: the same command goes on (sysexits' EX_TEMPFAIL).
STOPPED = 75
