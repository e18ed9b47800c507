"""The one exception for bad input from outside, and that of a run whose other ranks are gone."""


class InputError(ValueError):
    """Input from outside that cannot be used.

    The message is one sentence with the file, line or key, the value found and the remedy. The command line prints it
    without a traceback and exits with status 2.
    """


class EngineError(RuntimeError):
    """An engine cannot go on; the message says why. Not the fault of a request.

    The command line prints it without a traceback and exits with status 1.
    """


class RankError(RuntimeError):
    """Another rank of the run has ended, so that this one cannot go on.

    The message is one sentence that says which. The command line prints it without a traceback and exits with status 1.
    """


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
