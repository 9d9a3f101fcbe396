"""Looking into a running server: its counts, its connections, and where each of its tasks waits.

Nothing here runs while nothing is asked.
"""
