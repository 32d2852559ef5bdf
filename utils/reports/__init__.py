"""From scores to tables, pictures and pages."""
