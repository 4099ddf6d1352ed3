"""Name the exit codes of a rank. DeepSpeed's launcher passes on the first that is not 0, srun the highest."""

FINISHED = 0
#: An input to mend, named in one line: starting again would not help.
BAD_INPUT = 2
#: The watchdog ended it: no progress within a limit.
HUNG = 60
#: Another rank of the run has died or left alone.
PEER_DIED = 61
#: A signal stopped it and its checkpoint is written: the same command resumes (sysexits' EX_TEMPFAIL).
STOPPED = 75
