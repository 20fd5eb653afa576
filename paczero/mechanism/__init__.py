"""The mechanism: candidate subsets, their signs, one released bit, and what it tells. Needs numpy and scipy only.

>>> import numpy as np
>>> membership = draw_subsets(6, 4, seed=1)
>>> signs = subset_signs(np.array([0.3, -2.0, 1.0, 0.5, -0.1, 0.2]), membership, clip=1.0)
>>> posterior = Posterior.uniform(4)
>>> f = BitChannel.calibrate(posterior.minority(signs), nats=0.01)
>>> BitChannel.information(posterior.minority(signs), f) <= 0.01
True
>>> round(posterior_success(0.01), 4)
0.5706

A unit is in exactly half of the candidates, and one candidate is the secret. An adversary sees everything that is
released, knows the pool and the candidates, and computes without limit. The guess "was this unit in it?" is then right
with probability at most `posterior_success(I)` on average. Source: PACZero (arXiv 2605.06505).
"""

from paczero.mechanism.bounds import epsilon_for_nats, nats_for_epsilon, nats_for_success, posterior_success
from paczero.mechanism.channels import BitChannel, Channel, GaussianChannel, channel
from paczero.mechanism.ledger import Ledger
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.signs import subset_signs
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript

__all__ = [
    "BitChannel",
    "Channel",
    "GaussianChannel",
    "Ledger",
    "Posterior",
    "Transcript",
    "channel",
    "draw_subsets",
    "epsilon_for_nats",
    "nats_for_epsilon",
    "nats_for_success",
    "posterior_success",
    "subset_signs",
]
