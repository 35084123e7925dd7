"""Faults on a script: proxies that stand before a real engine and spoil what goes through them."""

from headrace.testing.faults.answers import Drop, Fault, HalfAnswer, Hang, ItemErrors, Late, NoAnswer, Slow, Status
from headrace.testing.faults.http import HttpProxy, Seen
from headrace.testing.faults.tcp import TcpProxy

__all__ = [
    "Drop",
    "Fault",
    "HalfAnswer",
    "Hang",
    "HttpProxy",
    "ItemErrors",
    "Late",
    "NoAnswer",
    "Seen",
    "Slow",
    "Status",
    "TcpProxy",
]
