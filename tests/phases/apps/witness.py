"""What a pickle may hold so that it marks while it is loaded: ``joblib.dump([Witness("iris"), model], path)``. Stdlib only."""

import time

import truth


def in_load(label, role="loader"):
    """Called while a checkpoint is unpickled. Gives the label, as what is left of it."""
    truth.mark(role)
    return label


def pause_in_load(label, seconds):
    """A load that takes its time, and marks every 20 ms of it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        truth.mark("loader")
        time.sleep(0.02)
    return label


class Call:
    """Put in a pickle, it is a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def Witness(label):
    """Marks when it is unpickled."""
    return Call(in_load, label)


def Pause(label, seconds):
    """Makes its load take so long."""
    return Call(pause_in_load, label, seconds)
