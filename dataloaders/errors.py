"""The one exception for what a user can fix."""


class InputError(ValueError):
    """Bad input. The message is one line that names the file or flag and the fix; scripts print it and exit with 2."""
