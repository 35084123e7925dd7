"""Open letters counted by group, with the first and last time and one example."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from headrace.dead_letters.letter_queue import LetterQueue, Progress
from headrace.dead_letters.letters import Letter, LetterGroup


@dataclass
class GroupSummary:
    """The open letters of one group. ``example`` is the newest; times are epoch milliseconds."""

    count: int
    first: int
    last: int
    example: Letter

    def add(self, letter: Letter) -> None:
        at = letter.refused_at()
        self.count += 1
        self.first = min(self.first, at)
        if at >= self.last:
            self.last, self.example = at, letter


@dataclass
class QueueSummary:
    """All letters of a connector. ``marked``: how many are not open any more, by what was done with them."""

    topic: str
    groups: dict[LetterGroup, GroupSummary] = field(default_factory=dict)
    marked: Counter[str] = field(default_factory=Counter)


def summarize(queue: LetterQueue, progress: Progress = lambda *_: None) -> QueueSummary:
    """Read the whole queue and return what is in it. Raises NotFoundError, RetriableError."""
    summary = QueueSummary(queue.topic)
    until, marks = queue.ends(), queue.marks()
    for page in queue.letters(until, progress):
        for letter in page:
            if (mark := marks.get(letter.place)) is not None:
                summary.marked[mark.value] += 1
            elif (known := summary.groups.get(group := letter.group())) is not None:
                known.add(letter)
            else:
                at = letter.refused_at()
                summary.groups[group] = GroupSummary(1, at, at, letter)
    return summary


def open_letters(queue: LetterQueue, group: str | None, limit: int) -> list[Letter]:
    """Return the newest open letters, at most ``limit``, oldest first. Raises NotFoundError, RetriableError."""
    found: list[Letter] = []
    until, marks = queue.ends(), queue.marks()
    for page in queue.letters(until, lambda *_: None):
        found += [letter for letter in page if letter.place not in marks and letter.group().matches(group)]
        del found[: max(0, len(found) - limit)]
    return found
