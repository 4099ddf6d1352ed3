"""Map a function over chunks of work on all cores."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def map_chunks(
    function: Callable[[Chunk], Result],
    chunks: Sequence[Chunk],
    processes: int,
    after_each: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Return the function's results, in the chunks' order; call `after_each` in this thread after every chunk.

    function: of a module; its arguments and results pickle. Its exceptions are raised here.
    """
    # A daemonic process may have no children.
    if processes <= 1 or len(chunks) <= 1 or multiprocessing.current_process().daemon:
        results = []
        for chunk in chunks:
            results.append(function(chunk))
            after_each()
        return results
    # Not forked: a rank has threads and a device.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(chunks)), context, _begin)
    try:
        futures = [pool.submit(function, chunk) for chunk in chunks]
        for future in as_completed(futures):
            future.result()
            after_each()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a process of the pool."""
    begin_worker()
    os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported: there is a process for each core
    gc.disable()  # it would walk whole dictionaries again and again; texts and counts have no cycles


def begin_worker() -> None:
    """Tie this process of a pool to its parent: it ends with it, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the parent is killed: the pool's pipes alone would not tell."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
