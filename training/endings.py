"""Why a training ends before its last update."""


class Diverged(Exception):
    """A figure of the training is no longer a number, and there is nothing to go back to."""


class Stopped(Exception):
    """The guard ended the training, as its settings say."""


class Interrupted(Exception):
    """The training was asked to end, and left a checkpoint to go on from."""
