"""Which run a seed stands for: even ones COINSTAC's, odd ones one behind the service."""

from chaos import judge
from chaos.scenario import drawn


def scenario(seed):
    """Return what a seed stands for."""
    if seed % 2 == 0:
        return drawn(seed)
    from chaos import served

    return served.drawn_here(seed)


def judged(seed, folder):
    """Run it, and return how it ended; raises `judge.Wrong`."""
    if seed % 2 == 0:
        return judge.judge(seed, folder)
    from chaos import served

    return served.judge_here(seed, folder)
