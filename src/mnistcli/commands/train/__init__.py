"""Plan, run, repeat and check trainings."""
