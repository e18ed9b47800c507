"""The one exception for bad input from outside."""


class InputError(ValueError):
    """Input from outside that cannot be used.

    The message is one sentence with the file, line or key, the value found and the remedy. The command line prints it
    without a traceback and exits with status 2.
    """
