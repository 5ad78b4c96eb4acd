"""How it is measured: this machine's limits, what a pass costs on paper, and techniques beside their peers.

    limits    how fast this machine reads memory and multiplies matrices: the two lines of its roofline
    cost      floating-point operations and bytes of one forward pass, from the config alone

`results/` holds recorded runs with their machine.
"""
