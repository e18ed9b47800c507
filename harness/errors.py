"""The one exception for bad input from outside."""


class InputError(ValueError):
    """Input from outside that cannot be used.

    The message is one sentence with the file, line or key, the value found and the remedy. The command line prints it
    without a traceback and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
