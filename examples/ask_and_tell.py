"""Somebody else's loop: raynas proposes, whatever measures tells, and every result is a row."""

import raynas


def measure(arch: raynas.Arch) -> float:
    """Stand for a training on your own machine, by your own scheduler, in your own words."""
    return 0.5 + 0.1 * arch["depth"] - abs(arch["width"] - 48) / 320


space = raynas.ArchSpace.of(depth=[1, 2, 3, 4], width=[16, 32, 48, 64, 96])
study = raynas.ask_tell(space, trials=15, options={"population": 6, "tournament": 3})
study.tell({"depth": 1, "width": 16}, measure({"depth": 1, "width": 16}), algo="my own guess")
while proposals := study.ask(2):  # two at once; a loop that is killed goes on from study.path
    for proposal in proposals:
        study.tell(proposal, {"accuracy": measure(proposal.arch), "epochs_run": 3})
print(raynas.load(study.path).top(3)[["trial", "algo", "arch", "accuracy"]])
