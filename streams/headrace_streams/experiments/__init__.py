"""``headrace experiment``: analysis, plans and evaluation of exploration models from logs of impressions.

Modules that compute are imported by the commands when they run, because numpy and scipy are an optional extra.
"""
