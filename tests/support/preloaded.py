"""Import and read what takes a rank seconds, once, for the server that tests/support/forkserver.py forks ranks from.

Not the programs themselves: each runs as a fresh `__main__`.
"""

import rouge_score.rouge_scorer  # noqa: F401
import torch.utils.cpp_extension  # noqa: F401

import trainer.liveness.watchdog
import trainer.plan
import trainer.run  # noqa: F401
from trainer.evaluation.scoring.identify import identify

identify("house")  # for its models
