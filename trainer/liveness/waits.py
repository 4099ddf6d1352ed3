"""Every wait of an orderly or disorderly end, in seconds, with its reason. Standard library alone.

Those of the watchdog's limits are the recipe's (section `watchdog`), and the last scrape's too (section `prometheus`).
"""

# A signal asks for a stop.

#: A launcher repeats to its ranks what their process group has already received: signals so close together are one.
SAME_SIGNAL_SECONDS = 3.0
#: After a second signal a rank that runs Python ends by itself; one that hangs is killed after this.
SECOND_SIGNAL_SECONDS = 1.0
#: An evaluation that another process makes is looked at so often.
EVALUATION_POLL_SECONDS = 0.5
#: Weights & Biases sends what is left.
TRACKER_FINISH_SECONDS = 60.0

# A rank leaves with an error: its launcher ends the others as soon as it sees that.

#: The rank that met the problem must have printed it before a rank that did not leaves.
PEER_PRINTS_SECONDS = 2.0
#: A refusal is printed by the first rank of a host, which may still be importing: the others leave later.
FIRST_RANK_PRINTS_SECONDS = 5.0
#: An unexpected exception may only mean that another rank has died. The monitors report that and end this rank
#: meanwhile, so this is longer than `VERDICT_SECONDS` and a dump of stacks together.
UNEXPECTED_SECONDS = 4.0
#: Where one rank leaves with an error, the others may take this long to leave with the same one.
ALONE_SECONDS = 8.0

# A rank dies or hangs: the monitors end the run.

#: A rank is looked at so often.
TICK_SECONDS = 0.25
#: The most that one look adds to the time without progress: what was stopped with its rank (Ctrl-Z) does not count.
LONGEST_TICK_SECONDS = 1.0
#: For rank 0's monitor to choose among reports, before a monitor acts on its own.
VERDICT_SECONDS = 1.0
#: A dump of stacks is complete when nothing more came for so long,
DUMP_QUIET_SECONDS = 0.2
#: and given up after this.
DUMP_SECONDS = 1.5
#: No rank ends sooner after a report: its launcher would signal the others before their stacks are taken.
HOLD_SECONDS = 1.0
#: A file system or a terminal may hang: what is written there is given up after this.
OUTPUT_SECONDS = 2.0
#: For a rank to obey a signal, before it is killed.
OBEY_SECONDS = 2.0
#: For a monitor to confirm that its rank says goodbye.
GOODBYE_SECONDS = 2.0

# The supervisor (`d2tv train`) ends or restarts an attempt.

#: It looks at its processes so often.
SUPERVISOR_POLL_SECONDS = 0.2
#: Ranks may take this long to leave after a launcher that reports success.
LEAVING_SECONDS = 5.0
#: A launcher of several hosts may take this long to end the ranks on the others.
OTHER_HOSTS_SECONDS = 15.0
#: The kernel removes killed processes within this; those left are reported.
KILL_SECONDS = 60.0
