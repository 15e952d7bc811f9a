"""Writes that the kernel does by itself: one io_uring (Linux) for each trio run.

A thread that is to write has to be woken first, which takes an interrupt of another core, and then
to wait until nobody runs Python any more: so the six writes of a commit would begin one after the
other, and not before the loop has nothing left to do. The kernel needs no interpreter. A write that
is asked for here begins at once, in a worker of the kernel; when some have ended the ring can be
read, which wakes the loop once for all of them.

Where there is no such thing (other systems, older kernels, a sandbox that forbids it) there is no
ring, and threads do the same (`segments.io_threads`).

The layout of what is shared with the kernel is that of ``<linux/io_uring.h>``. All of it happens in
the one thread of the loop, between whose looks lie system calls.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import select
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, TypeAlias

import trio

from segments.forks import close_in_children

Written: TypeAlias = Callable[[int], object]
"""Called with how many bytes have been written and synced, or the negated number of an error."""

_MOST: Final = 256
"""Writes under way at a time, a power of two."""
_SINCE: Final = (6, 10)
"""Earlier kernels have writes wait for each other whose files' numbers are alike: one disk that
hangs would hold up another."""
_CLOSED: Final = -1

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # the numbers of the calls, wherever they are not unknown
_MAX_WORKERS: Final = 19
_ONE_MAP: Final = 1
_SQES_AT: Final = 0x1000_0000
_WRITE, _IN_A_WORKER = 23, 1 << 4

_PARAMETERS: Final = Struct("=7I12x 10I 10I")
_SQE: Final = Struct("=BBHiQQIIQ24x")
_CQE: Final = Struct("=QiI")
_WORD: Final = 4


def _system_call() -> Any:
    """``syscall(2)``. The interpreter is not let go of: none of these calls waits."""
    call = ctypes.PyDLL(None, use_errno=True)["syscall"]
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_long, *5 * (ctypes.c_void_p,))
    return call


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class IoRing:
    """A ring, and the writes that are under way in it."""

    def __init__(self) -> None:
        """Raises `OSError` if the system has none, or not now."""
        self._call = _system_call()
        parameters = ctypes.create_string_buffer(_PARAMETERS.size)
        self._descriptor = _checked(self._call(_SETUP, _MOST, parameters, None, None, None, None))
        try:
            self._map(*_PARAMETERS.unpack(parameters))
            self._have_workers()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._under_way: dict[int, tuple[object, Written]] = {}
        close_in_children(self)

    def _map(self, *parameters: int) -> None:
        entries, completions, *_, features = parameters[:6]
        submission, completion = parameters[7:17], parameters[17:]
        if not features & _ONE_MAP:
            raise OSError("io_uring of an old kernel: expected one map for both queues")
        size = max(submission[6] + _WORD * entries, completion[5] + _CQE.size * completions)
        self._entries, self._completions = entries, completions
        self._queues = mmap.mmap(self._descriptor, size)
        self._sqes = mmap.mmap(self._descriptor, 64 * entries, offset=_SQES_AT)
        self._words = memoryview(self._queues).cast("I")
        self._sq_tail = submission[1] // _WORD
        self._cq_head, self._cq_tail = completion[0] // _WORD, completion[1] // _WORD
        self._cqes = completion[5]
        array = submission[6] // _WORD
        for at in range(entries):
            self._words[array + at] = at  # the entries are used in their order

    def _have_workers(self) -> None:
        """A disk that hangs keeps a worker, and leaves enough for all others."""
        most = (ctypes.c_uint * 2)(_MOST, 0)
        _checked(self._call(_REGISTER, self._descriptor, _MAX_WORKERS, most, 2, None, None))

    @trio.lowlevel.enable_ki_protection  # amid it the ring is out of step
    def begin_write(self, data: bytes, descriptor: int, offset: int, ended: Written) -> bool:
        """Write ``data`` into a file at ``offset``, and sync; ``ended`` is told from trio's loop.

        That may not raise anything, and until then the file must stay open: the kernel may look
        late what the number of ``descriptor`` stands for. Returns False if nothing has begun: too
        much is under way, or the system refuses, or the run is at its end.
        """
        if self._descriptor == _CLOSED or len(self._under_way) == self._entries:
            return False
        held = ctypes.c_char_p(data)
        tail = self._words[self._sq_tail]
        _SQE.pack_into(
            self._sqes, _SQE.size * (tail % self._entries),
            _WRITE, _IN_A_WORKER, 0, descriptor, offset,
            ctypes.cast(held, ctypes.c_void_p).value, len(data), os.RWF_DSYNC, tail,
        )  # fmt: skip
        self._under_way[tail] = held, ended
        self._words[self._sq_tail] = _after(tail)
        if self._call(_ENTER, self._descriptor, 1, None, None, None, None) == 1:
            return True
        self._words[self._sq_tail] = tail
        del self._under_way[tail]
        return False

    def _end(self) -> None:
        """Tell of all writes that have ended; if one who is told raises, that is raised then."""
        words, mistake = self._words, None
        while (head := words[self._cq_head]) != words[self._cq_tail]:
            at = self._cqes + _CQE.size * (head % self._completions)
            number, result, _flags = _CQE.unpack_from(self._queues, at)
            words[self._cq_head] = _after(head)
            try:
                self._under_way.pop(number)[1](result)
            except BaseException as error:  # noqa: BLE001 - the others are told all the same
                mistake = mistake or error
        if mistake is not None:
            raise mistake

    async def serve(self) -> None:
        """Tell of what has ended until cancelled, and then of all that is still under way."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._descriptor)
                self._end()
        finally:
            try:
                self._await_all()
            finally:
                self.close_in_child()

    def _await_all(self) -> None:
        """The kernel still reads what is to be written."""
        ends = select.poll()
        ends.register(self._descriptor, select.POLLIN)
        while self._under_way:
            ends.poll()
            self._end()

    def close_in_child(self) -> None:
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor != _CLOSED:
            self._under_way.clear()  # of a child: they are its parent's
            self._words.release()
            self._queues.close()
            self._sqes.close()
            os.close(descriptor)


def _after(number: int) -> int:
    return (number + 1) & 0xFFFF_FFFF


_rings: trio.lowlevel.RunVar[IoRing | None] = trio.lowlevel.RunVar("ring")


def ring_of_this_run() -> IoRing | None:
    """The ring of this trio run, made when it is first asked for; None where there is none."""
    try:
        return _rings.get()
    except LookupError:
        ring = _new_ring()
        _rings.set(ring)
        return ring


def _new_ring() -> IoRing | None:
    if sys.platform != "linux" or not hasattr(os, "RWF_DSYNC") or _kernel() < _SINCE:
        return None
    try:
        ring = IoRing()
    except OSError:
        return None
    try:
        trio.lowlevel.spawn_system_task(ring.serve, name="ring of writes")
    except RuntimeError:  # the run is at its end
        ring.close_in_child()
        return None
    return ring


def _kernel() -> tuple[int, ...]:
    """The first two numbers of this kernel's version."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))
