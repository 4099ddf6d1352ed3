"""A function over chunks of work on all cores, in processes that hold nothing of this one.

They are started as programs of their own, not forked and not by `multiprocessing`: a rank has threads and a device, and
`multiprocessing` would import the program that was started, torch and DeepSpeed with it, once a process.
"""

import contextlib
import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def map_chunks(
    function: Callable[[Chunk], Result],
    chunks: Sequence[Chunk],
    processes: int,
    after_each: Callable[[], None] = lambda: None,
) -> list[Result]:
    """The function's results, in the chunks' order. It is one of a module, and what it takes and returns pickles.

    What it raises is raised here. `after_each` is called in this thread after every chunk.
    """
    if processes <= 1 or len(chunks) <= 1:
        results = []
        for chunk in chunks:
            results.append(function(chunk))
            after_each()
        return results
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(chunks)):
        waiting.put(number)
    done: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()
    workers = [_start() for _ in range(min(processes, len(chunks)))]
    threads = [threading.Thread(target=_feed, args=(w, function, chunks, waiting, done), daemon=True) for w in workers]
    try:
        for thread in threads:
            thread.start()
        found: dict[int, Any] = {}
        while len(found) < len(chunks):
            number, result, error = done.get()
            if error is not None:
                raise error
            found[number] = result
            after_each()
        return [found[number] for number in range(len(chunks))]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for thread in threads:
            thread.join()
        for worker in workers:
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(OSError):  # what was in a pipe when its reader was killed
                    pipe.close()  # type: ignore[union-attr]


def _start() -> "subprocess.Popen[bytes]":
    # This module is found there as it was here, and a process that has a core has one thread.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


def _feed(
    worker: "subprocess.Popen[bytes]",
    function: Callable[[Chunk], Result],
    chunks: Sequence[Chunk],
    waiting: "queue.SimpleQueue[int]",
    done: "queue.SimpleQueue[tuple[int, Result | None, BaseException | None]]",
) -> None:
    """Give a process chunks as long as there are any."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    while True:
        try:
            number = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            pickle.dump((function, chunks[number]), worker.stdin)
            worker.stdin.flush()
            result, error = pickle.load(worker.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as problem:
            result, error = None, RuntimeError(f"a process that scores has died: {problem}")
        done.put((number, result, error))
        if error is not None:
            return


def serve() -> None:
    """What a process does: read a chunk, write its result, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    results: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no result
    gc.disable()  # it would go through whole dictionaries again and again; texts and counts have no cycles
    while True:
        try:
            function, chunk = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: tuple[Any, BaseException | None] = function(chunk), None
        except Exception as error:
            answer = None, error
        pickle.dump(answer, results)
        results.flush()
