"""Python versions of the file connectors of Kafka: the same keys, partitions and offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headrace.config import ConfigModel, key
from headrace.errors import ConfigError, TaskError
from headrace.plugin import SinkConnector, SinkTask, SourceConnector, SourceTask, Wait
from headrace.records import Rejection, SinkBatch, SourceBatch
from tests.golden.connect.requests import SINK, SOURCE

_IDLE = 0.05


class FileStreamSourceConfig(ConfigModel):
    file: str | None = key("file", default=None, doc="Source filename.", importance="high")
    topic: str = key("topic", doc="The topic to publish data to.", importance="high")
    batch_size: int = key("batch.size", default=2000, doc="Records per batch.", importance="low")


class FileStreamSourceTask(SourceTask):
    """Sends each complete line once; the offset counts bytes."""

    def start(self, context: Any) -> None:
        self._config = FileStreamSourceConfig.parse(context.properties)
        self._partition = {"filename": self._config.file}
        (stored,) = context.offset_reader.offsets([self._partition])
        self._next = stored["position"] if stored else 0

    def poll(self) -> SourceBatch | Wait:
        content = Path(str(self._config.file)).read_bytes()[self._next :]
        complete = content[: content.rfind(b"\n") + 1]
        if not complete:
            return Wait(_IDLE)
        self._next += len(complete)
        lines = complete.decode().splitlines()
        return SourceBatch(
            self._config.topic,
            lines,
            source_partition=self._partition,
            source_offset={"position": self._next},
            keys=[None] * len(lines),
        )


class FileStreamSourceConnector(SourceConnector):
    config_model: ClassVar[type[ConfigModel]] = FileStreamSourceConfig
    task_class = FileStreamSourceTask
    version = "4.3.1"
    aliases = (SOURCE,)

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        return [dict(properties)]

    def offset_changes(
        self, properties: Mapping[str, str], changes: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]
    ) -> Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
        """Refuse what the connector in Java refuses."""
        for partition, offset in changes:
            if "filename" not in partition:
                raise ConfigError("Partition objects should contain the key 'filename'")
            position = 0 if offset is None else offset.get("position")
            if not isinstance(position, int) or position < 0:
                raise ConfigError(
                    "The value for the 'position' key in the offset is expected to be a non-negative number"
                )
        return changes


class FileStreamSinkConfig(ConfigModel):
    file: str | None = key("file", default=None, doc="Destination filename.", importance="high")


class FileStreamSinkTask(SinkTask):
    """Appends the text of each value as a line. Fails when the file's folder does not exist."""

    def start(self, context: Any) -> None:
        self._file = Path(str(FileStreamSinkConfig.parse(context.properties).file))
        if not self._file.parent.is_dir():
            raise TaskError(f"Couldn't find or create file '{self._file}' for FileStreamSinkTask", code="file.missing")

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(f"{value}\n" for batch in batches for value in batch.values)
        return []


class FileStreamSinkConnector(SinkConnector):
    config_model: ClassVar[type[ConfigModel]] = FileStreamSinkConfig
    task_class = FileStreamSinkTask
    version = "4.3.1"
    aliases = (SINK,)
