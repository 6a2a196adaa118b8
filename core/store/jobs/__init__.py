"""Training jobs: rows, life cycle, queue and broker.

May import `registry` and the layers below it.
"""
