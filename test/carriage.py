"""Two sites and a centre in one process that `Carried` alone drives, as the engines do that are not COINSTAC."""

from consortium import SHORT, database

from computation import local, remote
from computation.coinstac.carried import Carried

SITES = ("a site", "b")


class Carriage:
    """A run; `sides` may be made anew between calls, and site b may be away and be fed what it missed."""

    def __init__(self, root, *, scans=((2, 1, 1), (2, 1, 1)), make=local.create, **changes):
        self.root, self.settings, self.make = root, {**SHORT, **changes}, make
        self.sides, self.made, self.verdicts = {}, {}, []
        for index, site in enumerate(SITES):
            self.made[site] = database(root / "made" / f"{index}.db", seed=index, scans=scans[index])
        for side in (*SITES, "centre"):
            self.restart(side)

    def restart(self, side):
        if side in self.sides:
            self.sides[side].close()
        service = remote.create() if side == "centre" else self.make()
        lent = {"site.db": self.made[side]} if side in self.made else {}
        self.sides[side] = Carried(service, self.root / "run" / side, side, lent=lent)

    def run(self, *, between=lambda carriage, side, iteration: None, turn=1, away=()):
        """Return the final digest; at the iterations in `away` site b is not there."""
        said, missed = [(dict.fromkeys(SITES, self.settings), {})], []
        for iteration in range(1, 60):
            messages, files = said[-1]
            answers = {}
            for site in SITES[::turn]:
                if site == "b" and iteration in away:
                    missed.append(iteration)
                    continue
                while site == "b" and missed:
                    between(self, site, missed[0])
                    self._miss(missed.pop(0), said)
                between(self, site, iteration)
                answers[site] = self.sides[site].call(iteration, messages[site], files)
            between(self, "centre", iteration)
            verdict = self.sides["centre"].call(
                iteration,
                {site: answer.output for site, answer in answers.items()},
                {site: answer.files for site, answer in answers.items()},
            )
            self.verdicts.append(verdict.output)
            if verdict.success:
                for late in missed:
                    self._miss(late, said)
                return verdict.output["model_digest"]
            said.append((dict.fromkeys(SITES, verdict.output), verdict.files))
        raise AssertionError("the run did not end")

    def _miss(self, iteration, said):
        messages, files = said[iteration - 1]
        answer = self.sides["b"].call(iteration, messages["b"], files, missed=True)
        assert not answer.files

    def close(self):
        for side in self.sides.values():
            side.close()
