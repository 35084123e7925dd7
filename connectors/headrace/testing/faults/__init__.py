"""Proxies in front of a real engine that inject faults into the connections of its clients."""

from headrace.testing.faults.answers import Drop, Fault, HalfAnswer, Hang, ItemErrors, Late, NoAnswer, Slow, StatusFault
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
    "StatusFault",
    "TcpProxy",
]
