"""Lines from a person at a terminal: with completion, and a history that lasts.

Loaded only when somebody types: the library behind it takes its time to load.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from aurora.terminal.commands import COMMANDS


class TypedLines:
    """Lines from a person."""

    def __init__(
        self,
        completer: Completer,
        *,
        color: bool,
        history: str = "history",
        is_ended: Callable[[str], bool] = lambda _: True,
        continuation: str = "",
    ) -> None:
        """``is_ended`` says of a text whether Enter ends it, or begins its next line."""
        self._session: PromptSession[str] = PromptSession(
            history=_history(history),
            completer=completer,
            complete_while_typing=False,
            multiline=Condition(lambda: not is_ended(get_app().current_buffer.text)),
            prompt_continuation=lambda width, _, wrapped: (
                " " * width if wrapped else continuation.rjust(width)
            ),
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
        )
        self._stopped = False

    async def next_line(self, prompt: str) -> str | None:
        return await trio.to_thread.run_sync(self._ask, prompt)

    def _ask(self, prompt: str) -> str | None:
        try:
            with patch_stdout(raw=True):  # what is said meanwhile goes above the line being typed
                return self._session.prompt(prompt, pre_run=self._leave_if_stopped)
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    async def stop(self) -> None:
        # Either the prompt's thread finds this when it begins, or it has a loop to be woken in.
        self._stopped = True
        loop = self._session.app.loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just been closed: the line is there
                loop.call_soon_threadsafe(self._leave_if_stopped)

    def _leave_if_stopped(self) -> None:
        application = self._session.app
        running = application.future is not None and not application.future.done()
        if self._stopped and running:
            application.exit(exception=EOFError())


class WordCompleter(Completer):
    """Offers commands, then what each takes."""

    def __init__(self, segments: Iterable[str]) -> None:
        names = list(segments)
        letters = dict.fromkeys(name[0] for name in names)
        self._segments = (*letters, *names, "az1", "az2", "az3")

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        """The words that continue the one before the cursor."""
        before = document.text_before_cursor.lstrip().split(" ")
        word = before[-1]
        for each in self._choices(before[:-1]):
            if each.lower().startswith(word.lower()):
                yield Completion(each, start_position=-len(word))

    def _choices(self, words: Sequence[str]) -> list[str]:
        if not words:
            return list(COMMANDS)
        command = COMMANDS.get(words[0])
        if command is None:
            return []
        known = {"segments": self._segments, "commands": tuple(COMMANDS)}
        offered = [each for word in command.takes for each in known.get(word, (word,))]
        return [each for each in offered if each not in words]


def _history(name: str) -> History:
    """Kept between sessions where the system keeps such things, if that can be written."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(base) / "aurora" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
