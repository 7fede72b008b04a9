"""SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 tell a command to stop. Nothing slow is imported here: it is needed at once.

After :func:`StopSignals.install` a signal ends the process at once, without a traceback. While it is ``postponed``,
which is during training, the first signal is only noted, and the program stops where it can; a second one ends it at
once. The exit status is 128 + the signal's number, and 0 after SIGUSR1, which schedulers send before the time is up.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: From one process of a training to the others, so that it does not count as a second signal.
_RELAY = signal.SIGUSR2
#: ``received`` after a relay: a stop whose signal another process knows. Less than every other number.
RELAYED = 1
#: Signals within this time are one: ``timeout`` sends two, and a terminal and a launcher may send one each.
_SAME_SECONDS = 0.5


class StopRequested(BaseException):
    """A process of this training was told to stop. No ``Exception``: nothing may take it for an error.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(describe_signal(number))
        self.number = number


def describe_signal(number: int) -> str:
    return "a signal" if number == RELAYED else signal.Signals(number).name


def get_exit_status(number: int) -> int:
    """Return the status with which a program ends that was told to stop by signal ``number``."""
    return 0 if number == signal.SIGUSR1 else 128 + number


class StopSignals:
    """What this process received.

    Attributes:
        received: the number of the first signal since it is postponed, ``RELAYED`` if another process got it, else 0.
        postponing: whether signals are only noted now.
    """

    def __init__(self) -> None:
        self.received = 0
        self.postponing = False
        self._pid = 0
        self._begun: Any = None
        self._launched: Any = None
        self._others: Sequence[int] = ()
        self._is_silent = self._interruptible = False
        self._time = 0.0

    @property
    def installed(self) -> bool:
        return self._pid == os.getpid()

    def install(self, begun: Any = None) -> None:
        """Take over the signals; other threads than the main one cannot.

        Args:
            begun: a number in shared memory, ``begun.value``, that becomes 1 when signals are postponed.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._pid, self._begun = os.getpid(), begun
        for number in (*SIGNALS, _RELAY):
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, _RELAY))

    @contextlib.contextmanager
    def postponed(self, others: Sequence[int] = (), silent: bool = False) -> Iterator[None]:
        """Only note the first signal, and tell the processes ``others`` of it.

        Does nothing if the signals were not taken over, as in notebooks.

        Args:
            silent: whether another process tells the user.
        """
        if not self.installed:
            yield
            return
        self.received, self._others, self._is_silent, self.postponing = 0, others, silent, True
        if self._begun is not None:
            self._begun.value = 1
        try:
            yield
        finally:
            self.postponing = False

    @contextlib.contextmanager
    def launching(self, processes: Sequence[int], begun: Any) -> Iterator[None]:
        """Pass the first signal on to the ``processes`` of a training; before it has ``begun``, end them at once."""
        self._launched = begun
        try:
            with self.postponed(processes, silent=True):
                yield
        finally:
            self._launched = None

    @contextlib.contextmanager
    def interruptible(self, wanted: bool = True) -> Iterator[None]:
        """Raise :class:`StopRequested` in here when a postponed signal comes, or has come."""
        before, self._interruptible = self._interruptible, wanted and self.postponing
        try:
            if self._interruptible and self.received:
                raise StopRequested(self.received)
            yield
        finally:
            self._interruptible = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.installed:
            return  # in a forked process that has not yet set its own handlers
        now = time.monotonic()
        if not self.postponing or (self._launched is not None and not self._launched.value):
            self._exit_now(number, "before the first step")
        elif not self.received:
            self._note(RELAYED if number == _RELAY else number, now)
        elif number != _RELAY and now - self._time < _SAME_SECONDS:
            self.received = number if self.received == RELAYED else self.received
        elif number != _RELAY:
            self._exit_now(number, "at once, without a checkpoint of the last steps")

    def _note(self, number: int, now: float) -> None:
        self.received, self._time = number, now
        for pid in self._others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, _RELAY)
        if self._launched is None:
            # The same signal may end the loader's workers. Their end is no error now.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._say(f"{describe_signal(number)}: stopping with a checkpoint; a second signal stops at once")
        if self._interruptible:
            self._interruptible = False
            # A loader would wait for its workers.
            kill_children()
            raise StopRequested(number)

    def _exit_now(self, number: int, when: str) -> None:
        kill_children()
        self._say(f"stopped by {describe_signal(number)} {when}", final=True)
        if self._launched is not None:
            raise SystemExit(get_exit_status(number))
        # A launcher needs to know the signal, and translates it.
        os._exit(128 + number if multiprocessing.parent_process() else get_exit_status(number))

    def _say(self, text: str, final: bool = False) -> None:
        # print() could be what was interrupted.
        if not self._is_silent or (final and self._launched is not None):
            with contextlib.suppress(OSError):
                os.write(2, f"{text}\n".encode())


def kill_children() -> None:
    """End the processes that this one has started by ``multiprocessing``, such as a loader's workers."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        child.kill()
        child.join(1)


def start_resource_tracker() -> None:
    """Start Python's process that tracks semaphores deaf to signals. It ignores SIGINT and SIGTERM only, and others
    that are sent to the whole group would end it."""
    with blocked_signals():
        # This unblocks SIGINT and SIGTERM in here.
        resource_tracker.ensure_running()


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """Keep signals waiting, also in processes that are started in here, until they ``install``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, _RELAY))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """Make this process, a loader's worker, deaf to signals for its parent, whose terminal may send them to all."""
    os.setpgid(0, 0)
    for number in (*SIGNALS, _RELAY):
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


#: This process's.
STOP = StopSignals()
