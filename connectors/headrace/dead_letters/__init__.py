"""Work with the letters of dead letter queues: group, show, retry and discard them.

A letter is never changed in Kafka. What was done with it is a mark in the compacted topic ``<queue>-marks``, written in
one transaction with the letters that the same retry sends back.
"""
