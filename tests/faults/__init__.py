"""What the gateway promises while something breaks, against real processes (docs/explanation/faults.md).

``stage`` is a database, a node and an upstream of its own; ``load`` calls it and remembers each answer; ``checker``
compares the three ledgers: what callers were answered, what reached the upstream, what is stored. ``faults`` breaks
things.
``python -m tests.faults`` (``make faults``) runs all of them at length, the suite a short schedule.
"""
