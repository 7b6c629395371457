"""Placing evaluations by Ray Tune on the nodes of a cluster. Which there are, and whose each is, the database decides.

A driver (``driver``) runs Tune where there is work. Tune asks ``suggestions`` which evaluation is next, places it where
its resources are free, and there ``trial`` claims it, by its number, and runs it as any worker does. Tune keeps nothing
that matters: a trial on a node that is gone is placed again once its lease has ended.
"""
