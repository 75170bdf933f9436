"""How parameters are updated, and at which rate.

Rooms:

- average: A moving average of the student's weights, which is evaluated and exported in their place.
- dot: The distillation-oriented trainer: SGD with a momentum for the task's gradient and one for the distillation's.
- optim: Optimiser and learning-rate schedule, timm's but for DOT.

Each may import those above it.
"""
