"""Intervals, saves and a run's facts as the trainer makes them, for tests of their reports."""

from pathlib import Path

import numpy as np

from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig, segments
from shards.stream.sampler import Sampler
from trainer.events import Saved
from trainer.interval import Interval, RankFacts
from trainer.telemetry.prometheus.run_metrics import RunFacts

LANGUAGES = ("english", "urdu")

#: Two ranks, ten steps: 8 examples english>english, 4 english>urdu.
INTERVAL = Interval(
    steps=10,
    seconds=5.0,
    total_loss=8.0,
    loss={"mms": 4.0, "tco": 0.25},
    watched={},
    nll={"mms": 3.5, "mxls": 3.75},
    tokens={"mms": [20.0, 10.0], "mxls": [0.0, 12.0]},
    nats_TS=np.array([[70.0, 0.0], [45.0, 0.0]]),
    tokens_TS=np.array([[20.0, 0.0], [12.0, 0.0]]),
    examples_TS=np.array([[8.0, 0.0], [4.0, 0.0]]),
    real_token_share=0.95,
    flops=2.5e9,
    ranks=(
        RankFacts(
            busy_seconds=2.0,
            data_wait_seconds=0.4,
            read_bytes=3e6,
            read_retries=2,
            open_files=40,
            resident_bytes=5e8,
            device_bytes=1e9,
            device_peak_bytes=2e9,
        ),
        RankFacts(busy_seconds=3.0, data_wait_seconds=0.6, read_bytes=1e6),
    ),
)


def saved(step: int, problem: str | None = None) -> Saved:
    """Return a save that ended well, or with a problem."""
    size = 0 if problem else 4096
    return Saved(path=Path("step"), step=step, stall_seconds=0.25, seconds=1.25, bytes=size, problem=problem)


def run_facts(corpus: Corpus, *, direction_matrix: bool = False, mixture: MixtureConfig | None = None) -> RunFacts:
    return RunFacts(
        languages=corpus.languages,
        counts_TS=corpus.direction_counts("train"),
        sampler=Sampler(
            corpus, split="train", mixture=segments(mixture or MixtureConfig(), 4, None), seed=0, group_size=4
        ),
        directory=Path("."),
        build={"version": "1"},
        run={"run": "mine", "objective": "d2tv"},
        peak_flops=1e10,
        checkpoint_every=50,
        direction_matrix=direction_matrix,
    )
