"""Search over architectures: which candidate next, where it runs, what it got. Knows no HTTP.

The database is the only truth: request.py says what is asked, space.py what is feasible, searches.py and proposals.py
what is wanted, leases.py who runs it, execution.py how, results.py and leaderboard.py what came of it.
"""
