"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input. The message is one line that names the file or flag and the mend; scripts print it and exit with 2."""
