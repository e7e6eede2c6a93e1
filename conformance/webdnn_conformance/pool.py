"""Workers in processes of their own, fed in small batches; a process that dies takes one case with it."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from webdnn_conformance.result import CaseResult, Outcome
from webdnn_conformance.store import Pack
from webdnn_conformance.worker import Options, Worker

__all__ = ["run_in_place", "run_in_processes"]

_BATCH = 8
_STOP_SECONDS = 8.0

Work = Sequence[tuple[Path, str]]
"""Cases, each as the pack it lies in and its id."""


def run_in_place(work: Work, options: Options) -> Iterator[CaseResult]:
    """Run cases in this very process, one after the other."""
    worker, packs = Worker(options), _Packs()
    try:
        for path, case_id in work:
            yield worker.run(packs.case(path, case_id))
    finally:
        worker.close()


def run_in_processes(work: Work, options: Options, jobs: int) -> Iterator[CaseResult]:
    """Run cases in `jobs` processes; results come as they are ready.

    Closing the iterator (an interrupt does) stops the processes after the case that each is at.
    """
    context = multiprocessing.get_context("spawn")
    queue = deque(work)
    hands = [_Hand(context, options, number) for number in range(max(1, min(jobs, -(-len(work) // _BATCH))))]
    try:
        for hand in hands:
            hand.feed(queue)
        while any(hand.busy for hand in hands):
            yield from _collect(hands, queue)
    finally:
        for hand in hands:
            hand.stop()
        end = time.monotonic() + _STOP_SECONDS
        for hand in hands:
            hand.join(end)


def _collect(hands: Sequence[_Hand], queue: deque[tuple[Path, str]]) -> Iterator[CaseResult]:
    """Wait for something to happen, and pass on what is ready."""
    ready = wait([hand.connection for hand in hands if hand.busy], timeout=1.0)
    for hand in hands:
        if hand.connection in ready:
            try:
                message = hand.connection.recv()
            except (EOFError, ConnectionError, OSError):
                yield from hand.bury("crash", "the worker process ended", queue)
                continue
            if message is None:
                hand.feed(queue)
            elif isinstance(message, str):
                hand.current, hand.since = message, time.monotonic()
            else:
                hand.waiting = [item for item in hand.waiting if item[1] != message.id]
                hand.current = ""
                yield message
        elif hand.busy and hand.current and time.monotonic() - hand.since > hand.patience:
            hand.kill()
            text = f"expected the case to end within {hand.patience:.0f} s, got no answer from its process"
            yield from hand.bury("timeout", text, queue)


@dataclass
class _Hand:
    """One process as its parent sees it. waiting: what it was given and has not done. current: what it is at.
    busy: it has a batch whose end it has not reported."""

    context: Any
    options: Options
    number: int
    waiting: list[tuple[Path, str]] = field(default_factory=list)
    current: str = ""
    since: float = 0.0
    busy: bool = False

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        ours, theirs = self.context.Pipe()
        self.connection: Connection = ours
        self.process: BaseProcess = self.context.Process(
            target=_main, args=(theirs, self.options, self.number), daemon=False, name=f"conformance-{self.number}"
        )
        self.process.start()
        theirs.close()

    @property
    def patience(self) -> float:
        """Seconds after which a case that does not end is given up: each backend may take a network's time."""
        return 60.0 + 5 * self.options.timeout * (1 + len(self.options.backends))

    def feed(self, queue: deque[tuple[Path, str]]) -> None:
        """Give it the next batch; at the end of the queue, batches of one, so that all end at the same time."""
        size = _BATCH if len(queue) > 8 * _BATCH else 1
        self.waiting = [queue.popleft() for _ in range(min(size, len(queue)))]
        self.busy = bool(self.waiting)
        if self.busy:
            self.connection.send(self.waiting)

    def bury(self, status: str, text: str, queue: deque[tuple[Path, str]]) -> Iterator[CaseResult]:
        """After its end: the case it was at is to blame, the rest goes back into the queue, a new one starts."""
        self.process.join(2)
        code = self.process.exitcode
        blamed = self.current or (self.waiting[0][1] if self.waiting else "")
        for path, case_id in reversed(self.waiting):
            if case_id == blamed:
                facts = Pack(path).facts(case_id)
                message = f"{text} (exit status {code})" if status == "crash" else text
                yield CaseResult(
                    case_id, facts, tuple(Outcome(name, status, message) for name in self.options.backends)
                )
            else:
                queue.appendleft((path, case_id))
        self.waiting, self.current, self.since = [], "", 0.0
        self.connection.close()
        self.number += 1000
        self._start()
        self.feed(queue)

    def stop(self) -> None:
        """Let it end after its present case."""
        self.busy = False
        try:
            self.connection.close()
        except OSError:
            return

    def join(self, until: float) -> None:
        self.process.join(max(0.1, until - time.monotonic()))
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(3)
        if self.process.is_alive():
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


class _Packs:
    """Packs that are open."""

    def __init__(self) -> None:
        self._open: dict[Path, Pack] = {}

    def case(self, path: Path, case_id: str) -> Any:
        if path not in self._open:
            self._open[path] = Pack(path)
        return self._open[path].case(case_id)


def _main(connection: Connection, options: Options, number: int) -> None:
    """The process: batches in; out come each case's id when it begins, its result, and None after a batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, _terminate)
    worker, packs = Worker(options, number), _Packs()
    try:
        while True:
            for path, case_id in connection.recv():
                connection.send(case_id)
                connection.send(worker.run(packs.case(path, case_id)))
            connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionError):
        return
    finally:
        worker.close()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)
