"""Open letters counted by group, with the first and last time and one example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.dead_letters.letter_queue import LetterQueue
from headrace.dead_letters.letters import Letter, LetterGroup
from headrace.records import TopicPartition

MOST_LETTERS = 20_000
"""Letters of one answer, so that a request ends soon and needs little memory."""


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
    next: dict[int, int] = field(default_factory=dict)
    """Partition → offset from which to read the rest of the queue; empty when all of it was read."""
    left: int = 0
    """Offsets of the rest."""


def summarize(queue: LetterQueue, start: Mapping[int, int] | None = None, most: int = MOST_LETTERS) -> QueueSummary:
    """Read about ``most`` letters from ``start`` (the beginning) on. Raises NotFoundError, RetriableError."""
    summary = QueueSummary(queue.topic)
    until, marks = queue.ends(), queue.marks()
    begin = {TopicPartition(queue.topic, partition): offset for partition, offset in (start or {}).items()}
    for page in queue.letters(until, lambda *_: None, begin):
        for letter in page:
            if (mark := marks.get(letter.place)) is not None:
                summary.marked[mark.value] += 1
            elif (known := summary.groups.get(group := letter.group())) is not None:
                known.add(letter)
            else:
                at = letter.refused_at()
                summary.groups[group] = GroupSummary(1, at, at, letter)
        summary.left = sum(max(0, end - queue.positions[item]) for item, end in until.items())
        if queue.read >= most and summary.left:
            summary.next = {item.partition: offset for item, offset in queue.positions.items()}
            return summary
    summary.left = 0
    return summary


def open_letters(queue: LetterQueue, group: str | None, limit: int) -> list[Letter]:
    """Return the newest open letters, at most ``limit``, oldest first. Raises NotFoundError, RetriableError."""
    found: list[Letter] = []
    until, marks = queue.ends(), queue.marks()
    for page in queue.letters(until, lambda *_: None):
        found += [letter for letter in page if letter.place not in marks and letter.group().matches(group)]
        del found[: max(0, len(found) - limit)]
    return found
