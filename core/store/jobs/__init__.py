"""Training jobs, from submission to end: states, leases, events, outbox and broker.

May import `registry` and the layers below it.
"""
