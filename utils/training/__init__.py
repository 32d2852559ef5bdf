"""The loop that every method shares."""
