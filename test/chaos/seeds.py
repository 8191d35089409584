"""Which run a seed stands for: COINSTAC's, one behind the service, or one of real processes."""

from chaos import judge
from chaos.scenario import drawn


def where(seed):
    """Return in a word where a seed's run is: every other on COINSTAC, four of two hundred in real processes."""
    if seed % 50 == 49:
        return "processes"
    return "service" if seed % 2 else "coinstac"


def scenario(seed):
    """Return what a seed stands for."""
    if where(seed) == "coinstac":
        return drawn(seed)
    return _room(seed).drawn_here(seed)


def judged(seed, folder):
    """Run it, and return how it ended; raises `judge.Wrong`."""
    if where(seed) == "coinstac":
        return judge.judge(seed, folder)
    return _room(seed).judge_here(seed, folder)


def _room(seed):
    """Import what only such a seed needs."""
    if where(seed) == "processes":
        from chaos import processes

        return processes
    from chaos import served

    return served
