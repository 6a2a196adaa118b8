"""Training jobs from queue to end: states, leases, events, outbox and broker.

May import `registry` and the layers below it.
"""
