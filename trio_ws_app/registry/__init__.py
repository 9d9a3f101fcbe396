"""Who is here, and what reaches them: registrations, broadcasts, topics."""
