"""Scans as hospitals and challenges hand them out, and the way from them to the files that training reads."""
