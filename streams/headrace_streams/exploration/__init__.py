"""The exploration model: probability that a user converts on a survey, selection, traffic, tests and evaluation.

Needs the extra `exploration` (numpy, scipy). Pure computation: topics, state and clocks belong to the stream task.
"""
