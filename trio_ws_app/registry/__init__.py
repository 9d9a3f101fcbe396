"""Registrations, and what reaches them: broadcasts, groups, topics."""
