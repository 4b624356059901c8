"""Why a training does not begin, or ends before its last update."""


class Untrainable(ValueError):
    """The training can't begin, or go on, with these settings; another try would meet the same."""


class NotThisTraining(Untrainable):
    """A checkpoint is of a training with other settings or other shards."""


class Diverged(Exception):
    """A figure of the training is no longer a number, and there is nothing to go back to."""


class Stopped(Exception):
    """The guard ended the training, as its settings say."""


class Interrupted(Exception):
    """The training was asked to end, and left a checkpoint to go on from."""
