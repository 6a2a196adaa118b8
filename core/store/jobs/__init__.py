"""Training jobs: their rows, their life (`lifecycle`), events, the queue and the broker.

May import `registry` and the layers below it.
"""
