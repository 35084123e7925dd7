"""Bytes and decisions of Kafka Connect's own classes for worker groups; ``GroupProtocol.java`` describes the cases."""
