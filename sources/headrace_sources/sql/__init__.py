"""Rows of SQL databases to Kafka: the JDBC source connector's keys, offsets and records, on SQLAlchemy."""

from headrace_sources.sql.connector import JdbcSourceConnector, SqlSourceConnector

__all__ = ["JdbcSourceConnector", "SqlSourceConnector"]
