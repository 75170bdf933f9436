"""What several methods are built of.

Rooms:

- branches: The branches that lead from a student's stage to a vector (Hao et al., NeurIPS 2023, Fig. 3; OFAKD@f7bb896).
- contrast: Noise contrastive estimation against a memory bank, with its gradient in closed form.
- conv_regressor: The regressor of hints: a convolution that brings a student's map to the size and the channels of the teacher's.
- decoupled: DKD's loss of each row, which the methods built on top of DKD weight in their own ways.
- grafts: Paths through two networks: bridges between their feature spaces, and what runs behind a bridge.
- numerics: Arithmetic that several losses share. Everything here works on the last dimension, in log space.
- outer_products: Divergence of the softmaxes of outer products, without the products.
- networks: Networks that single methods bring along: HCD's, PAT's, DiffKD's.
- ranks: Tensors of all processes of a run, stacked.
- singular_vectors: Leading singular vectors of a map, with a gradient that stays finite.
- stage_pairs: What the methods on stage features share.
- task_loss: The loss of the task: what logits are held against where no teacher is asked, as a run's configuration has it.

They may import models; methods import them, and they import no method.
"""
