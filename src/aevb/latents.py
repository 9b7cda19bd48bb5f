"""When a latent dimension counts as inactive: one figure, for pictures and reports alike.

It has a module of its own because pictures are drawn without loading what computes the numbers.
"""

#: Nats of KL, averaged over cases, below which a latent dimension is inactive: its posterior is as
#: good as the prior for every case. About a share of 0.02 of its variance then tells of the case.
INACTIVE = 0.01
