"""Measure this rank between two logged steps: its time without waiting for others, and the memory it holds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from deepspeed.accelerator import get_accelerator

from shards.batch.reader import Reader
from trainer.interval import RankFacts


class RankMeter:
    """Add up the steps that are taken; skipped ones leave no trace. Only `facts` waits for the device.

    count_forward: False where the forward pass waits for other ranks, so that its time is not this rank's.
    """

    def __init__(self, reader: Reader, device: torch.device, *, count_forward: bool = True) -> None:
        self._reader, self._device, self._count_forward = reader, device, count_forward
        self._process = psutil.Process()
        self._waited = self._forward = 0.0
        self._step_waited = self._step_forward = 0.0
        # On a device, pairs of events around what the host has only queued.
        self._events: list[tuple[torch.Event, torch.Event]] = []
        self._step_events: list[tuple[torch.Event, torch.Event]] = []
        self._retries, self._bytes = reader.retries, reader.bytes_read

    def waited(self, seconds: float) -> None:
        """Count the seconds that a step waited for its data."""
        self._step_waited += seconds

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Time a forward pass."""
        if not self._count_forward:
            yield
            return
        if self._device.type == "cpu":
            began = time.perf_counter()
            yield
            self._step_forward += time.perf_counter() - began
            return
        begin, end = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._step_events.append((begin, end))

    def step_ended(self, *, taken: bool) -> None:
        if taken:
            self._waited += self._step_waited
            self._forward += self._step_forward
            self._events += self._step_events
        self._step_waited, self._step_forward, self._step_events = 0.0, 0.0, []

    def forget(self) -> None:
        """Drop the steps since the last call of `facts`: they will come again."""
        self.step_ended(taken=False)
        self._waited = self._forward = 0.0
        self._events = []

    def facts(self) -> RankFacts:
        """Return the facts of the steps since the last call, waiting for the device."""
        if self._events:
            torch.accelerator.synchronize(self._device)
            self._forward += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        retries, read = self._reader.retries, self._reader.bytes_read
        accelerator = get_accelerator()
        facts = RankFacts(
            busy_seconds=self._waited + self._forward,
            data_wait_seconds=self._waited,
            read_bytes=float(read - self._bytes),
            read_retries=float(retries - self._retries),
            open_files=float(self._process.num_fds()),
            resident_bytes=float(self._process.memory_info().rss),
            device_bytes=float(accelerator.memory_allocated()),
            device_peak_bytes=float(accelerator.max_memory_allocated()),
        )
        self.forget()
        self._retries, self._bytes = retries, read
        return facts
