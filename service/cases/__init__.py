"""What everybody may do in a run, and the only room that changes its state.

Each file has one kind of caller: `coordinator` and `starting`, `site` and `committing`, `reading` and `looking`
(anybody in a run), and `closing` (a worker); `desk` is what all of them share. A function takes the desk, who asks, and
what is asked; it returns records, or raises a `Refusal`. Whatever changes is changed by one `Store.write`, decided upon
what was read, and decided anew where somebody else was faster.
"""
