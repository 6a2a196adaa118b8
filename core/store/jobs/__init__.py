"""Training jobs: rows, life cycle, events, queue and broker.

May import `registry` and the layers below it.
"""
