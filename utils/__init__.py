"""The parts that the scripts share, a file per idea. Nothing here knows one method's name."""
