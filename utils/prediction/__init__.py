"""From a new scan to its label map."""
