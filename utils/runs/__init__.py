"""A run's folder and its contents."""
